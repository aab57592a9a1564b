"""Every way of selecting and splitting a run makes the same claims: a verdict rests on its own evidence alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuneshift.cli import main

RUN_WIDE = ("adjusted_p", "q")
TESTS = ("density_rises", "density_marks_followed", "instructions_stay_important", "prompt_middle_recovers")


@pytest.fixture
def pairs(pytester, tiny_base, tiny_tuned, tiny_prompts) -> tuple[object, ...]:
    """Two pairs on the same checkpoints, each the other way round."""
    path = pytester.path / "pairs.toml"
    path.write_text(
        f'[pairs.one]\nbase = "{tiny_base}"\ntuned = "{tiny_tuned}"\nprompts = ["{tiny_prompts}"]\n'
        f'[pairs.two]\nbase = "{tiny_tuned}"\ntuned = "{tiny_base}"\nprompts = ["{tiny_prompts}"]\n'
    )
    return ("--pairs", path)


def key(claim):
    return (claim["finding"], claim["pair"], claim["prompts"], claim["group"])


def claims_of(path: Path) -> dict[tuple[str, ...], dict]:
    """What a record says of each claim by itself. Raises where one stands there twice."""
    made = json.loads(path.read_text())["claims"]
    found = {key(claim): {k: v for k, v in claim.items() if k not in RUN_WIDE} for claim in made}
    assert len(found) == len(made)
    return found


@pytest.mark.nightly
def test_every_way_of_selecting_and_splitting_makes_the_same_claims(suites, pairs, pytester):
    def run(*options: object) -> dict[tuple[str, ...], dict]:
        suites(*options, "--shift-out", "out", pair=pairs)
        return claims_of(pytester.path / "out" / "run.json")

    whole = run()
    assert len(whole) == 8
    assert {claim["level"] for claim in whole.values()} == {1 - 0.05 / 4}
    text = json.dumps(sorted(whole.items()))
    # All of it, otherwise: workers, both of them with everything, repetition.
    assert json.dumps(sorted(run("-n", "2").items())) == text
    assert json.dumps(sorted(run("-n", "2", "--dist", "each").items())) == text
    assert json.dumps(sorted(run("--shift-inconclusive", "skip").items())) == text
    # Parts of it, which together are all of it.
    by_pair = [run("--pair", name) for name in ("one", "two")]
    assert json.dumps(sorted((by_pair[0] | by_pair[1]).items())) == text
    alone: dict[tuple[str, ...], dict] = {}
    for name in TESTS:
        alone |= run("-k", name)
    assert json.dumps(sorted(alone.items())) == text
    one = run("-k", "density_rises and pair:two", "-n", "2")
    assert [*one.values()] == [whole[k] for k in one]
    assert len(one) == 1
    # Shards, merged: adjusted p and q too.
    for name in ("one", "two"):
        suites("--pair", name, "--shift-out", name, pair=pairs)
    assert main(["merge", "one/run.json", "two/run.json", "-o", "merged"]) == 0
    suites(pair=pairs)
    merged, full = (json.loads((pytester.path / d / "run.json").read_text()) for d in ("merged", "tuneshift-results"))
    assert merged["claims"] == full["claims"]
    for name in ("families", "confirmatory_claims", "false_decisions_at_most"):
        assert merged["run"][name] == full["run"][name]


def test_a_claim_is_made_once_in_a_run_with_workers(suites, pairs, pytester, monkeypatch):
    pytester.makepyfile(
        counted="""
        import os
        import tuneshift.claims.claim as comparison

        def pytest_configure(config):
            made = comparison.Claim.decide
            if getattr(made, "counted", False):
                return

            def decide(self, *args, **named):
                with open("made.txt", "a") as file:
                    file.write(f"{self.finding.id} {self.pair.name} {os.getpid()}\\n")
                return made(self, *args, **named)

            decide.counted = True
            comparison.Claim.decide = decide
        """
    )
    monkeypatch.syspath_prepend(pytester.path)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    suites("-n", "2", "-p", "counted", pair=pairs, new_process=True)
    rows = [line.split() for line in (pytester.path / "made.txt").read_text().splitlines()]
    made = [(finding, pair) for finding, pair, _ in rows]
    assert len(set(made)) == len(made) == 8
    for name in ("one", "two"):
        assert len({process for _, pair, process in rows if pair == name}) == 1


def test_a_pairs_tests_follow_one_another(suites, pairs):
    shown = suites("--collect-only", "-q", pair=pairs).stdout.str()
    order = [line.split("pair:")[1].rstrip("]") for line in shown.splitlines() if "pair:" in line and "::" in line]
    assert order == ["one"] * 4 + ["two"] * 4
