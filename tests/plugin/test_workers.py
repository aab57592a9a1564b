"""xdist: one pair per worker, and a run that ends when a worker dies."""

from __future__ import annotations

import os
import re

import pytest

pytest.importorskip("xdist", reason="pytest-xdist is not installed")


def test_a_run_whose_worker_is_killed_ends_and_judges_the_rest(
    suites, record, pytester, tiny_base, tiny_tuned, tiny_prompts, monkeypatch
):
    pytester.makepyfile(
        killer="""
        import os, signal
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_call(item):
            if "stay_important" in item.nodeid and not os.path.exists("died"):
                open("died", "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    suites()  # a warm store, so that only scheduling is at work
    pairs = pytester.path / "pairs.toml"
    pairs.write_text(
        "".join(
            f'[pairs.{name}]\nbase = "{tiny_base}"\ntuned = "{tiny_tuned}"\nprompts = ["{tiny_prompts}"]\n'
            for name in ("one", "two")
        )
    )
    (pytester.path / "died").unlink(missing_ok=True)
    result = suites("-n", "2", "-p", "killer", pair=("--pairs", pairs), new_process=True)
    text = result.stdout.str()
    assert "crashed while running" in text
    judged = [(c["pair"], c["finding"]) for c in record()["claims"]]
    assert len(set(judged)) == len(judged) == 7  # all of both pairs but the one that killed its worker
    (error,) = record()["errors"]
    assert (error["finding"], error["prompts"], error["group"]) == ("wu2023.instructions_stay_important", "tiny", "all")
    assert (error["pair"], error["finding"]) not in judged
    assert "crashed while running" in error["message"]
    assert "killed from outside" in error["message"]
    assert "1 claim could not be made" in text


QUICK = """
from tuneshift.engine import progress

progress.lines_through.__kwdefaults__["every"] = 0.05
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_long_work_says_how_far_it_is_where_there_is_no_terminal(suites, pytester, monkeypatch, tmp_path, workers):
    pytester.makepyfile(quick=QUICK)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    result = suites("-p", "quick", "-k", "density_rises", *workers, new_process=True, store=tmp_path / "store")
    said = result.stdout.str() if workers else result.stderr.str()
    source = r"\[gw\d\] " if workers else ""
    line = rf"^tuneshift: {source}attribution tiny-\w+: \d+ of 20 prompts, .*( left| so far)$"
    assert re.search(line, said, re.M), said


SLOW_JUDGE = f"""{QUICK}
import time

from tuneshift.judges.similarity import SimilarityJudge

scores = SimilarityJudge.scores

def slowly(judge, items):
    time.sleep(0.5)
    return scores(judge, items)

SimilarityJudge.scores = slowly
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_a_slow_judge_inside_a_test_says_that_it_is_at_work(suites, pytester, monkeypatch, workers):
    """By the captured file too, which a line must get past."""
    pytester.makepyfile(slow=SLOW_JUDGE)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    result = suites("-p", "slow", "-k", "tuned_follows", *workers, suite="test_implicit_following.py",
                    new_process=True)  # fmt: skip
    said = result.stdout.str() if workers else result.stderr.str()
    source = r"\[gw\d\] " if workers else ""
    assert re.search(rf"^tuneshift: {source}deciding hewitt2024.tuned_follows on \S+, \d+ s so far$", said, re.M), said


@pytest.mark.nightly  # tests/plugin/test_run.py asks the same of a single pair
def test_two_workers_decide_as_one_process_does(suites, record, pytester, tiny_base, tiny_tuned, tiny_prompts):
    pairs = pytester.path / "pairs.toml"
    pairs.write_text(
        f'[pairs.one]\nbase = "{tiny_base}"\ntuned = "{tiny_tuned}"\nprompts = ["{tiny_prompts}"]\n'
        f'[pairs.two]\nbase = "{tiny_tuned}"\ntuned = "{tiny_base}"\nprompts = ["{tiny_prompts}"]\n'
    )
    suites(pair=("--pairs", pairs))
    alone = record()["claims"]
    suites("-n", "2", pair=("--pairs", pairs))
    shared = record()["claims"]
    assert {claim["pair"] for claim in shared} == {"one", "two"}
    assert shared == alone  # verdicts, levels, intervals and all else
