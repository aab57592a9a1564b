"""``--shift-update-expectations``: the file says what the run saw, and the next run is green."""

from __future__ import annotations

from pathlib import Path

import pytest

DENSITY = "density_rises"
NAME = "wu2023.instruction_density_rises"
OPTION = "--shift-update-expectations"


@pytest.fixture
def pair(tmp_path: Path, tiny_base: Path, tiny_tuned: Path, tiny_prompts: Path):
    """``pair(line)`` writes a pair file with that line about expectations; the options that select it."""

    def make(line: str = 'expectations = "known/expect.toml"') -> tuple[object, ...]:
        (tmp_path / "pairs.toml").write_text(
            f'[pairs.tiny]\nbase = "{tiny_base}"\ntuned = "{tiny_tuned}"\nprompts = ["{tiny_prompts}"]\n{line}\n'
        )
        return ("--pairs", tmp_path / "pairs.toml")

    return make


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """The file that the pair names."""
    (tmp_path / "known").mkdir()
    return tmp_path / "known" / "expect.toml"


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)], ids=["one process", "two workers"]
)
def test_a_file_that_is_not_there_is_made_and_the_next_run_is_green(suites, pair, tmp_path, workers):
    first = suites("-k", DENSITY, OPTION, *workers, pair=pair())
    assert first.ret == pytest.ExitCode.OK  # inconclusive is skipped
    first.stdout.fnmatch_lines(["expectations: *expect.toml: 0 changed, 1 added, 0 removed; replace each*"])
    text = (tmp_path / "known" / "expect.toml").read_text()
    assert text.startswith("# Known outcomes of the pair tiny.")
    assert "give the reason" in text
    second = suites("-k", DENSITY, *workers, pair=pair())
    second.assert_outcomes(xfailed=1)
    assert second.ret == 0


def test_a_changed_outcome_is_rewritten_and_the_comment_stays(suites, pair, known):
    known.write_text(f'# why\n[[expect]]\nfinding = "{NAME}"\nverdict = "contradicted"  # then\nreason = "x"\n')
    result = suites("-k", DENSITY, OPTION, pair=pair())
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*1 changed, 0 added, 0 removed*"])
    assert "# why\n[[expect]]\n" in known.read_text()
    assert 'verdict = "inconclusive"  # then\n' in known.read_text()


def test_as_declared_there_is_nothing_to_change(suites, pair, known):
    text = f'[[expect]]\nfinding = "{NAME}"\nverdict = "inconclusive"\nreason = "random models"\n'
    known.write_text(text)
    result = suites("-k", DENSITY, OPTION, pair=pair())
    assert result.ret == 0
    result.stdout.fnmatch_lines(["expectations: *nothing to change"])
    assert known.read_text() == text


def test_a_full_disk_fails_the_run_and_leaves_the_file(suites, pair, known, monkeypatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuneshift.claims.expectations_update.publish", full)
    result = suites("-k", DENSITY, OPTION, "--shift-inconclusive", "pass", pair=pair())
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["tuneshift: *cannot be written: No space left on device*"])
    assert not known.exists()


def test_a_pair_that_names_no_file_is_told_how(suites, pair):
    result = suites(OPTION, pair=pair(""))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(['*names no expectations file*expectations = "tiny.toml" under*pairs.tiny*'])


def test_other_prompts_than_the_pairs_are_refused(suites, pair, tiny_prompts):
    result = suites(OPTION, "--shift-prompts", tiny_prompts, pair=pair())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*leave --shift-prompts out*"])


def test_without_the_option_a_missing_file_is_a_usage_error(suites, pair):
    result = suites("-k", DENSITY, pair=pair())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*expect.toml cannot be read: No such file*"])


def test_a_stale_entry_is_a_usage_error_before_anything_is_measured(suites, pair, known):
    known.write_text(f'[[expect]]\nfinding = "{NAME}"\nverdict = "inconclusive"\nreason = "x"\nprompts = "tinny"\n')
    result = suites("-k", DENSITY, pair=pair())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*is not tested on prompts 'tinny'; did you mean 'tiny'*"])
