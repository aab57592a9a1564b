"""A run before anything is measured: its targets and places, what applies, what is declared, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.claims.finding import Finding, Outcome
from tuneshift.engine.settings import Settings
from tuneshift.errors import ExpectationError, PromptError, UsageError
from tuneshift.measures.catalogue import MEASURES
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import PromptSource
from tuneshift.session.checks import check_run
from tuneshift.session.describe import describe_settings
from tuneshift.session.requests import WEIGHTS, Gating, Options
from tuneshift.session.run import RunSession

FINDING = Finding(
    id="who2024.recognised", title="t", claim="c", source="s", direction="greater", unit="u", sesoi=0.1,
    sesoi_reason="r", how="h", needs=(("base", "attribution"), ("tuned", "attribution")), family="who2024.one",
)  # fmt: skip
RESPONSES = replace(
    FINDING, id="who2024.followed", needs=(("tuned", "generation"), ("single_task_tuned", "generation"))
)
ON_WEIGHTS = replace(FINDING, id="who2024.rotated", needs=(("base", "concepts"),), family="who2024.two")
CATALOGUE = (FINDING, RESPONSES, ON_WEIGHTS)

Runs = Callable[..., RunSession]


@pytest.fixture
def prompts(tmp_path: Path) -> Callable[[str], PromptSource]:
    """``prompts(name)`` writes a set of two prompts, each a group of its own."""

    def write(name: str) -> PromptSource:
        path = tmp_path / f"{name}.jsonl"
        rows = [{"id": i, "prompt": f"Do {i}.", "instruction_spans": [[0, 2]], "group": i} for i in "ab"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return PromptSource(path=str(path))

    return write


@pytest.fixture
def run(tmp_path: Path) -> Runs:
    """``run(*pairs, catalogue=..., **options)`` is a session on pairs as a script gives them."""

    def make(*pairs: ModelPair, catalogue: tuple[Finding, ...] = CATALOGUE, **more: object) -> RunSession:
        asked = {
            "base": None, "tuned": (), "pairs_file": None, "pair_names": (), "prompts": (), "store": tmp_path / "store",
            "settings": Settings(device="cpu"), "alpha": 0.05, "here": tmp_path,
            "gating": Gating(storage=tmp_path / "baselines"), **more,
        }  # fmt: skip
        return RunSession(options=Options(**asked), known_findings=lambda: catalogue, given=pairs)

    return make


@pytest.fixture(autouse=True)
def _plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint of these tests has files."""
    plain = SimpleNamespace(quantization=None, prompt_learning=None)
    monkeypatch.setattr(RunSession, "inspected", lambda run, ref: plain)


def ref(name: str, **more: object) -> ModelRef:
    return ModelRef(name=name, model=None if "evidence" in more else name, **more)


def pair(*sources: PromptSource, name: str = "pair", **more: object) -> ModelPair:
    return ModelPair(**{"name": name, "base": ref("b"), "tuned": ref("t"), "prompts": sources, **more})


def test_targets_are_every_pair_set_and_group_and_weights_are_asked_once_a_pair(run, prompts) -> None:
    one, two = prompts("one"), prompts("two")
    session = run(pair(one, two, name="p"), pair(one, name="q"))
    on_prompts = [(t.pair.name, t.on, t.group) for t in session.targets_of(FINDING)]
    assert on_prompts == [
        *(("p", name, group) for name in ("one", "two") for group in "ab"),
        *(("q", "one", group) for group in "ab"),
    ]
    on_weights = [(t.pair.name, t.on, t.group) for t in session.targets_of(ON_WEIGHTS)]
    assert on_weights == [("p", WEIGHTS, "all"), ("q", WEIGHTS, "all")]
    assert [t.id for t in session.targets_of(FINDING)][:1] == ["pair:p,one,a"]
    assert all([p.id for p in t.members] == [t.group] for t in session.targets)


def test_places_are_those_of_one_pairs_complete_run(run, prompts) -> None:
    both = (pair(prompts("one"), name="p"), pair(prompts("two"), name="q"))
    session = run(*both)
    assert [tuple(place) for place in session.places(both[1])] == [
        *((finding.id, "two", group) for finding in (FINDING, RESPONSES) for group in "ab"),
        (ON_WEIGHTS.id, WEIGHTS, "all"),
    ]
    every = {(f.id, t.pair.name, t.on, t.group) for f, t in session.catalogue_claims}
    assert len(every) == len(session.catalogue_claims) == sum(len(session.places(p)) for p in both)


def test_a_pair_without_prompts_is_tested_on_weights_alone(run) -> None:
    session = run(pair())
    assert [finding.id for finding, _ in session.catalogue_claims] == [ON_WEIGHTS.id]


def test_a_prompt_file_that_is_not_there_is_named_with_the_pair(run, tmp_path: Path) -> None:
    session = run(pair(PromptSource(path=str(tmp_path / "gone.jsonl"))))
    with pytest.raises(PromptError, match=r"gone\.jsonl"):
        check_run(session)


def test_a_set_of_the_name_of_one_that_a_finding_brings_is_refused_unless_it_is_that(run, prompts, tmp_path) -> None:
    """Records hold a pair's sets by name: of two, a gate would know one, and match no item of the other."""
    catalogue = (FINDING, replace(FINDING, id="who2024.text", prompt_set="plain-text"))
    with pytest.raises(
        PromptError, match=r"plain-text\.jsonl has the name of the set 'plain-text' that findings bring"
    ):
        check_run(run(pair(prompts("plain-text")), catalogue=catalogue))
    assert run(pair(prompts("plain-text"))).targets
    shipped = run(pair(PromptSource(path="plain-text")), catalogue=catalogue)
    assert {t.on for t in shipped.targets} == {"plain-text"}


def test_a_family_is_counted_in_the_catalogue_whatever_applies(run) -> None:
    session = run(pair())
    assert [session.family_size(finding) for finding in CATALOGUE] == [2, 2, 1]
    assert session.family_size(replace(FINDING, family="mine.own")) == 1


@pytest.mark.numerics
def test_exposure_counts_families_on_places_and_leaves_out_what_cannot_apply(run, prompts) -> None:
    session = run(pair(prompts("one")))
    found = session.exposure(session.catalogue_claims)
    # FINDING on two groups and ON_WEIGHTS once; RESPONSES asks for a checkpoint that the pair does not name.
    assert (found.claims, found.families) == (3, 3)
    assert found.false == pytest.approx(0.05 / 2 + 0.05 / 2 + 0.05)
    assert session.exposure([]).claims == 0


def test_what_a_pair_lacks_is_why_a_finding_does_not_apply(run, prompts, tmp_path: Path) -> None:
    sources = (prompts("one"),)
    lacking = run(pair(*sources))
    (target, _) = lacking.targets
    assert "names no single_task_tuned checkpoint; `tuneshift tune BASE --how single-task" in lacking.inapplicable(
        RESPONSES, target
    )
    assert lacking.inapplicable(FINDING, target) is None
    whole = run(pair(*sources, siblings={"single_task_tuned": ref("s")}))
    assert whole.inapplicable(RESPONSES, whole.targets[0]) is None
    recorded = run(pair(*sources, base=ref("b", evidence=tmp_path), tuned=ref("t", evidence=tmp_path)))
    assert recorded.inapplicable(FINDING, recorded.targets[0]) is None
    assert recorded.inapplicable(RESPONSES, recorded.targets[0]) == (
        "t is recorded evidence, which holds no generation on one"
    )
    assert recorded.inapplicable(ON_WEIGHTS, recorded.weight_targets[0]) is not None


def test_what_cannot_apply_and_what_is_recorded_has_no_task(run, prompts, tmp_path: Path) -> None:
    recorded = run(pair(prompts("one"), base=ref("b", evidence=tmp_path), tuned=ref("t", evidence=tmp_path)))
    for finding, target in recorded.catalogue_claims:
        assert recorded.tasks(finding, target) == []
    assert recorded.plan(recorded.catalogue_claims) == ()
    assert not (tmp_path / "store").exists()


def declares(path: Path, *, finding: str = FINDING.id, prompts: str = "one") -> Path:
    path.write_text(
        f'[[expect]]\nfinding = "{finding}"\nverdict = "contradicted"\nreason = "r"\nprompts = "{prompts}"\n'
    )
    return path


def test_declared_outcomes_are_checked_against_the_pairs_own_places(run, prompts, tmp_path: Path) -> None:
    declaring = pair(prompts("one"), expectations=declares(tmp_path / "e.toml"))
    (entry,) = run(declaring).declared(declaring)
    assert (entry.finding, entry.verdict) == (FINDING.id, Outcome.CONTRADICTED)
    assert run().declared(pair()) == ()
    declares(tmp_path / "e.toml", prompts="onee")
    with pytest.raises(ExpectationError, match=r"not tested on prompts 'onee'; did you mean 'one'"):
        run(declaring).declared(declaring)
    # Neither a run that takes stale entries out nor one on other prompts is stopped by them.
    assert len(run(declaring, update_expectations=True).declared(declaring)) == 1
    assert len(run(declaring, prompts=("other",)).declared(declaring)) == 1
    declares(tmp_path / "e.toml", finding="who2024.recognized")
    with pytest.raises(ExpectationError, match=r"did you mean 'who2024\.recognised'"):
        check_run(run(declaring))


def test_a_file_that_is_not_there_yet_may_be_updated_and_not_read(run, prompts, tmp_path: Path) -> None:
    declaring = pair(prompts("one"), expectations=tmp_path / "new.toml")
    assert run(declaring, update_expectations=True).declared(declaring) == ()
    with pytest.raises(ExpectationError, match=r"new\.toml cannot be read"):
        run(declaring).declared(declaring)


def test_two_pairs_cannot_rewrite_one_file_even_through_a_link(run, prompts, tmp_path: Path) -> None:
    (tmp_path / "link.toml").symlink_to(declares(tmp_path / "e.toml"))
    pairs = [pair(prompts("one"), name=n, expectations=tmp_path / f"{f}.toml") for n, f in (("p", "e"), ("q", "link"))]
    with pytest.raises(UsageError, match=r"pairs p and q share .*choose one with --pair"):
        check_run(run(*pairs, update_expectations=True))


def test_a_judge_rules_and_an_annotator_that_are_none_are_refused_before_a_checkpoint_is_read(run, tmp_path) -> None:
    for settings, words in (
        (Settings(judges=("verifyer",)), "verifyer"),
        (Settings(annotator="embeding"), "embeding"),
        (Settings(rules=str(tmp_path / "gone.toml")), "gone"),
    ):
        with pytest.raises(UsageError, match=words):
            check_run(run(pair(), settings=settings))


def test_the_record_says_how_the_run_measures(run) -> None:
    settings = Settings(response="tuned", judges=("ifeval",), dtype="float64")
    described = describe_settings(run(pair(), settings=settings))
    said = described["settings"]
    assert (said["response"], said["judges"], said["dtype"]) == ("tuned", ["ifeval"], "float64")
    assert described["measures"] == {name: measure.version for name, measure in MEASURES.items()}


def test_prompts_without_references_have_nothing_to_rank(run, prompts) -> None:
    ranks = replace(FINDING, id="who2024.ranks", needs=(("base", "likelihood"),))
    lacking = run(pair(prompts("one")), catalogue=(ranks,))
    why = lacking.inapplicable(ranks, lacking.targets[0])
    assert why is not None
    assert "responses cannot be ranked: of 2 prompts 0 have a reference response" in why
    assert lacking.tasks(ranks, lacking.targets[0]) == []
    assert lacking.inapplicable(FINDING, lacking.targets[0]) is None
