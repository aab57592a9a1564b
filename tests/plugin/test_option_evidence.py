"""``--shift-evidence``, after `tuneshift evidence export` and `import`: the claims of a run, without weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tuneshift.cli import main
from tuneshift.commands.common import OK
from tuneshift.resources import data_folder
from tuneshift.store.store import Store

ALL = {"suite": ""}


@pytest.fixture
def weights(tiny_base: Path, tiny_tuned: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the tiny pair that a test may take away."""
    return tuple(Path(shutil.copytree(one, tmp_path / "weights" / one.name)) for one in (tiny_base, tiny_tuned))


@pytest.fixture
def measured(suites, weights, tiny_prompts, tiny_words, record):
    """``measured(*options)``: a run of all suites on the copies; its claims as they stand in run.json."""

    def measured(*options: object, **how: object) -> str:
        pair = ("--base", weights[0], "--tuned", weights[1], "--shift-prompts", tiny_prompts,
                "--shift-vocabulary", tiny_words, "--shift-word-vectors", tiny_words)  # fmt: skip
        suites("--shift-inconclusive=pass", *options, pair=pair, **{**ALL, **how})
        return json.dumps(record()["claims"])

    return measured


@pytest.fixture
def replay(pytester, record, tmp_path):
    """``replay(*options)``: a run of all suites in a store that is empty or named."""

    def replay(*options: object, store: Path | None = None, code: int | None = None) -> pytest.RunResult:
        found = pytester.runpytest(
            str(data_folder("suites")), "-p", "no:cacheprovider", "--shift-store", store or tmp_path / "empty",
            "--shift-inconclusive=pass", "--color=no", *options,
        )  # fmt: skip
        assert code is None or found.ret == code
        return found

    return replay


def test_exported_evidence_replays_to_the_same_claims_byte_for_byte(
    measured, replay, weights, record, pytester, tmp_path, capsys
):
    before = measured()
    file = tmp_path / "shared" / "tiny.evidence.zip"
    file.parent.mkdir()
    assert main(["evidence", "export", "tuneshift-results", "--out", str(file)]) == OK
    assert f"{file}: pair tiny-base-tiny-tuned, " in capsys.readouterr().out
    assert len(json.loads(before)) == 20
    assert len({verdict["verdict"] for verdict in json.loads(before)}) > 1
    for one in weights:
        shutil.rmtree(one)
    replay(f"--shift-evidence={file}").stdout.fnmatch_lines(["*(recorded evidence) -> *(recorded evidence)"])
    assert json.dumps(record()["claims"]) == before
    assert record()["errors"] == []
    assert not (tmp_path / "empty").exists()

    # Imported, it is found by its name; the sets are those that somebody with the weights would measure.
    assert main(["evidence", "import", str(file), "--store", str(tmp_path / "fresh")]) == OK
    assert "sets, 0 of them new" not in capsys.readouterr().out
    assert not list(Store(tmp_path / "fresh").verify())
    file.unlink()
    replay("--pair=tiny-base-tiny-tuned", store=tmp_path / "fresh")
    assert json.dumps(record()["claims"]) == before
    assert record()["pairs"][0]["base"]["evidence"].startswith(str(tmp_path / "fresh"))


def test_two_processes_replay_as_one(measured, replay, record, tmp_path):
    before = measured("--finding=wu2023.*")
    file = tmp_path / "tiny.evidence.zip"
    assert main(["evidence", "export", "tuneshift-results", "--out", str(file)]) == OK
    replay(f"--shift-evidence={file}", "-n", "2", "--finding=wu2023.*")
    assert json.dumps(record()["claims"]) == before
