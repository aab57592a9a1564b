"""``--shift-attribute-tokens``: how many response tokens importance is taken for."""

from __future__ import annotations

import pytest

ONE = ("-k", "density_rises")


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)], ids=["alone", "two"])
def test_header_plan_record_and_repeat_say_how_many(suites, record, pytester, workers):
    if not workers:
        result = suites(*ONE, "--shift-attribute-tokens=6", "--shift-plan")
        result.stdout.fnmatch_lines(["*tiny-base: attribution to own response, 6 tokens of it, tiny, *"])
    result = suites(*ONE, "--shift-attribute-tokens=6", *workers)
    result.stdout.fnmatch_lines(
        ["tuneshift: pair *: importance for 6 evenly spaced tokens of each response (attribute-tokens)"]
    )
    made = record()
    (claim,) = made["claims"]
    assert made["run"]["settings"]["attribute_tokens"] == made["pairs"][0]["settings"]["attribute_tokens"] == 6
    assert claim["details"]["attribute_tokens"] == 6
    assert claim["details"]["longest_response"] == {"base": 12, "tuned": 12}  # of the response, attributed or not
    rows = {row["name"]: row for row in claim["sensitivity"]}
    assert rows["both responses cut to the shorter"]["note"].startswith("not measured: some tokens of each response")
    assert not any(figure["kind"] == "curves" for figure in claim["figures"])
    strip = made["examples"][0]["models"][0]
    assert len(strip["response_tokens"]) == len(strip["levels"][0]) == 6
    assert strip["thinned_from"] == 12
    assert "--shift-attribute-tokens=6" in made["run"]["command"]
    page = (pytester.path / "tuneshift-results" / "report.html").read_text()
    assert "--shift-attribute-tokens=6" in page
    assert "6 response tokens, evenly spaced of 12" in page


def test_evidence_of_all_tokens_serves_it_and_never_the_other_way_round(suites, record, monkeypatch, tmp_path):
    store = tmp_path / "store"
    suites(*ONE, store=store)
    whole = record()["claims"][0]
    with monkeypatch.context() as patched:
        patched.setattr("tuneshift.checkpoints.loading.load", lambda *_, **__: pytest.fail("weights were loaded"))
        suites(*ONE, "--shift-attribute-tokens=6", "--shift-plan", store=store).stdout.fnmatch_lines(
            ["0 of * items to measure*"]
        )
        suites(*ONE, "--shift-attribute-tokens=6", store=store)
    thinned = record()["claims"][0]
    assert thinned["values"] != whole["values"]
    assert set(thinned["evidence"].values()).isdisjoint(whole["evidence"].values())
    other = tmp_path / "other"
    suites(*ONE, "--shift-attribute-tokens=6", store=other)
    measured = record()["claims"][0]
    assert measured["values"] == thinned["values"]
    assert measured["evidence"] == thinned["evidence"]
    suites(*ONE, "--shift-plan", store=other).stdout.fnmatch_lines(["80 of * items to measure*"])


@pytest.mark.parametrize("count", [4, 0, -1])
def test_fewer_than_a_fifth_each_are_refused(suites, count):
    result = suites(f"--shift-attribute-tokens={count}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"*--shift-attribute-tokens is {count}; at least 5 are wanted, one for each fifth of a response.*"]
    )


def test_as_many_as_the_longest_response_are_all(suites, record):
    suites(*ONE)
    whole = record()["claims"][0]
    suites(*ONE, "--shift-attribute-tokens=12")
    made = record()
    assert made["claims"][0]["evidence"] == whole["evidence"]
    assert made["pairs"][0]["settings"]["attribute_tokens"] is None
    assert "attribute_tokens" not in made["claims"][0]["details"]
