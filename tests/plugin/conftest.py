"""What every test of the plugin runs: the suites on a tiny random pair, with a store and an output folder of its
own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies  # noqa: F401  its plugin imports all of it at the end of a run: longer than the run
import pytest
import scipy.special  # noqa: F401  pytester unloads what a run imported, and numpy.fft cannot be loaded twice

# Imported here, so that runs inside this process, after each of which pytester forgets what they imported, find these
# modules and not ones of their own: a patched function or a class would be another.
import tuneshift.claims.expectations_update
import tuneshift.session.scripting
import tuneshift.session.workers  # noqa: F401
from tuneshift.resources import data_folder

SUITES = data_folder("suites")
Suites = Callable[..., pytest.RunResult]


@pytest.fixture
def suites(
    pytester: pytest.Pytester,
    tiny_base: Path,
    tiny_tuned: Path,
    tiny_prompts: Path,
    tiny_words: Path,
    warm_store: Path,
) -> Suites:
    """``suites(*options)`` runs instruction recognition on the tiny pair in this process.

    ``suite=""`` runs all of ``suites``, another name that module; ``pair=()`` leaves the pair out.
    """

    def run(
        *options: object,
        pair: tuple[object, ...] | None = None,
        store: Path = warm_store,
        new_process: bool = False,
        suite: str = "test_instruction_recognition.py",
    ) -> pytest.RunResult:
        chosen = ("--base", tiny_base, "--tuned", tiny_tuned) if pair is None else pair
        prompts = (
            "--shift-prompts", tiny_prompts, "--shift-vocabulary", tiny_words, "--shift-word-vectors", tiny_words,
        ) if pair is None else ()  # fmt: skip
        start = pytester.runpytest_subprocess if new_process else pytester.runpytest
        quick = ("-p", "no:hypothesispytest") if new_process else ()
        return start(
            str(SUITES / suite), "-p", "no:cacheprovider", "--shift-store", store, "--shift-max-new-tokens", "12",
            "--color=no", *quick, *chosen, *prompts, *options,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def warm_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: the tiny pair is measured once."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def record(pytester: pytest.Pytester) -> Callable[[], dict[str, Any]]:
    """``record()`` reads the run record of the last run."""
    return lambda: json.loads((pytester.path / "tuneshift-results" / "run.json").read_text())
