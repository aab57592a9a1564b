"""The files that docs/adding-a-finding.md shows are complete: each is run as it stands, on a pair."""

from __future__ import annotations

from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-finding.md"
FILES = [part.split("```")[0] for part in PAGE.read_text(encoding="utf-8").split("```python\n")[1:]]


@pytest.fixture
def run_file(pytester, tiny_base, tiny_tuned, tiny_prompts, tmp_path):
    """``run_file(text)`` runs a suite file of the user's own; its test's claim of the run record, and the result."""

    def run(text: str):
        path = pytester.makepyfile(test_mine=text)
        return pytester.runpytest(
            path, "--base", tiny_base, "--tuned", tiny_tuned, "--shift-prompts", tiny_prompts, "--color=no",
            "--shift-max-new-tokens", "12", "--shift-store", tmp_path / "store", "-p", "no:cacheprovider",
        )  # fmt: skip

    return run


def test_the_page_shows_two_files():
    assert len(FILES) == 2
    assert all("@pytest.mark.finding(" in text for text in FILES)


def test_the_first_takes_twenty_lines():
    assert len([line for line in FILES[0].split("\n") if line.strip()]) <= 20


@pytest.mark.parametrize(
    ("text", "finding"), list(zip(FILES, ("mine2026.end_weighs_less", "mine2026.responses_end"), strict=True))
)
def test_a_finding_of_ones_own_is_decided(text, finding, run_file, record):
    result = run_file(text)
    (claim,) = record()["claims"]
    assert claim["finding"] == finding
    assert claim["verdict"] in ("reproduced", "contradicted", "inconclusive")
    assert claim["n"] == 20
    assert claim["clusters"] == 10
    assert claim["effect"] is not None
    assert result.ret == (1 if claim["verdict"] == "contradicted" else 0)
    result.stdout.fnmatch_lines(["*= tuneshift verdicts =*"])
