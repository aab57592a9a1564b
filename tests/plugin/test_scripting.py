"""`tuneshift.run`: the claims of `pytest suites` without pytest, as rows."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tuneshift
from tuneshift import Arm, Finding, ModelRef, NotApplicable, Run, TuneshiftError, UsageError
from tuneshift.claims.catalogue import finding_tests, findings
from tuneshift.engine.settings import Settings
from tuneshift.errors import MeasureError
from tuneshift.resources import data_folder
from tuneshift.session.results import Rows
from tuneshift.session.scripting import RunSettings

OWN = Finding(
    id="mine2026.responses_end", title="<b>Responses end</b>", claim="More responses are ended.", source="notes",
    direction="greater", unit="share of responses", sesoi=0.05, sesoi_reason="One in twenty.", how="Paired.",
    needs=(("base", "generation"), ("tuned", "generation")),
)  # fmt: skip


def ended(view):
    base, tuned = (tuneshift.responses(view, need, need[0]) for need in OWN.needs)
    ids = tuple(i for i in base if i in tuned)
    arms = [
        Arm(label=label, ids=ids, values=np.array([float(found[i].values["ended"]) for i in ids]))
        for label, found in (("base", base), ("tuned", tuned))
    ]
    return tuneshift.paired_difference(*arms, clusters=tuneshift.clusters_of(view, ids), level=view.level)


@pytest.fixture
def run(tiny_base, tiny_tuned, tiny_prompts, tiny_words, warm_store):
    """``run(**named)`` runs findings on the tiny pair with the store that pytest's runs use."""

    def run(*pair, **named) -> Run:
        words = {"vocabulary": tiny_words, "word_vectors": tiny_words}
        return tuneshift.run(
            *(pair or (tiny_base, tiny_tuned)), prompts=tiny_prompts, store=warm_store, max_new_tokens=12,
            **words, **named,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def found() -> Run:
    """A run record of one decided claim and one that could not be made."""
    claim = {
        "finding": "f.<i>", "pair": "p", "prompts": "s", "group": "all", "n": 2, "effect": 0.5,
        "unit": "share", "verdict": "reproduced", "values": {"base": {"ids": ["a", "b"], "x": [0.0, 1.0]},
        "tuned": {"ids": ["a", "b"], "x": [1.0, 1.0]}}, "figures": [],
        "interval": [0.25, 0.75],
    }  # fmt: skip
    failed = {"finding": "g", "pair": "p", "prompts": "s", "group": "all", "message": "<script>no</script>"}
    return Run(schema=1, run={}, pairs=[{"name": "p"}], claims=[claim], errors=[failed])


def test_every_shipped_finding_has_its_test():
    assert tuple(finding_tests()) == findings()
    assert len(set(finding_tests().values())) == len(findings())


def test_a_script_and_pytest_make_the_same_claims(run, suites, record):
    made = run(findings="wu2023.*important")
    suites("-k", "instructions_stay_important", "--shift-inconclusive", "pass")
    assert json.loads(json.dumps(made.claims)) == record()["claims"]
    assert made.pairs == record()["pairs"]
    assert made.examples == record()["examples"]
    for name in ("alpha", "confirmatory_claims", "measures", "settings", "store", "response"):
        assert made.run[name] == record()["run"][name]


def test_all_shipped_findings_are_decided_without_a_choice(run):
    assert {claim["finding"] for claim in run().claims} == {finding.id for finding in findings()}


def test_a_finding_of_ones_own_is_decided_by_its_quantity_or_its_test(run):
    @pytest.mark.finding(OWN)
    def test_ends(claim):
        claim.decide(ended, secondary={"again": ended})

    (by_quantity,) = run(findings=(OWN, ended)).claims
    (by_test,) = run(findings=[test_ends]).claims
    assert by_quantity["finding"] == OWN.id
    assert by_quantity["n"] == 20
    assert by_quantity["effect"] == by_test["effect"]
    assert [row["name"] for row in by_test["secondary"]] == ["again"]


def test_one_claim_that_fails_leaves_the_others(run):
    def broken(view):
        raise MeasureError("out of ink")

    other = replace(OWN, id="mine2026.broken")
    with pytest.warns(UserWarning, match=r"1 of 2 claims could not be made; the first: .*broken on .*out of ink"):
        made = run(findings=[(other, broken), (OWN, ended)])
    assert [claim["finding"] for claim in made.claims] == [OWN.id]
    (row,) = made.failed
    assert (row["finding"], row["pair"], row["prompts"]) == ("mine2026.broken", "tiny-base-tiny-tuned", "tiny")
    with pytest.raises(TuneshiftError, match="out of ink"):
        run(findings=[(other, broken)])


def test_a_finding_that_does_not_apply_is_a_claim(run):
    def never(view):
        raise NotApplicable("there is nothing to see")

    (claim,) = run(findings=(OWN, never)).claims
    assert (claim["verdict"], claim["reason"]) == ("not_applicable", "there is nothing to see")


def test_a_test_that_decides_nothing_is_a_mistake(run):
    @pytest.mark.finding(OWN)
    def test_forgets(claim):
        pass

    with pytest.raises(UsageError, match=r"ended without claim\.decide"):
        run(findings=test_forgets)


def test_settings_of_a_run_are_settings_of_the_options():
    shared = {field.name for field in fields(Settings)} - {"memo", "judges"} | {"judge", "alpha", "noise_floor"}
    assert set(RunSettings.__annotations__) == shared


@pytest.mark.numerics
def test_settings_reach_the_run(run):
    made = run(findings=(OWN, ended), alpha=0.2, dtype="float64", judge="similarity", response="reference")
    assert made.run["alpha"] == 0.2
    assert made.run["settings"]["dtype"] == "float64"
    assert made.run["settings"]["judges"] == ["similarity"]
    assert made.run["response"] == "reference"
    assert made.claims[0]["level"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"findings": "wu2032.*"}, r"findings='wu2032\.\*': no shipped finding .*wu2023"),
        ({"findings": []}, "findings is empty"),
        ({"findings": [OWN]}, "an id or pattern, a pair"),
        ({"respons": "own"}, "no setting 'respons'; did you mean 'response'"),
        ({"response": "mine"}, "response='mine': accepted are own, reference, tuned"),
        ({"dtype": "int8"}, "dtype='int8': accepted are float64"),
        ({"alpha": 5}, "alpha is 5; it is an error rate"),
        ({"pairs": "pairs.toml"}, "exclude each other"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(run, named, said):
    with pytest.raises(UsageError, match=said):
        run(**named)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"base": 3, "tuned": "x"}, r"base is a folder, a hub id or a ModelRef; got 3 \(int\)"),
        ({"base": "x", "tuned": ["y"]}, r"tuned is a folder, a hub id or a ModelRef; got \['y'\] \(list\)"),
        ({"pairs": 3}, "pairs=3: a pair file, an evidence file, a ModelPair or a list of them is wanted"),
        ({"prompts": 3}, "prompts is a JSONL file, the name of a shipped set, or a list of these; got 3"),
        ({"prompts": [None]}, "prompts is a JSONL file, .*; got None"),
        ({"findings": 3}, r"findings is an id or pattern, \(Finding, quantity\), a test or a list of these; got 3"),
        ({"store": 3}, "store is a folder; got 3"),
        ({"alpha": "0.05"}, "alpha is an error rate, between 0 and 1 .*; got '0.05'"),
        ({"alpha": True}, "alpha is an error rate, between 0 and 1 .*; got True"),
        ({"max_new_tokens": 1.5}, "max_new_tokens is a number of tokens; got 1.5"),
        ({"judge": 3}, "judge is the name of a judge or a list of names; got 3"),
        ({"judge": [3]}, "judge is the name of a judge or a list of names; got 3"),
        ({"annotator": 3}, "annotator is a text; got 3"),
        ({"rules": 3}, "rules is a text; got 3"),
        ({"vocabulary": [1]}, r"vocabulary is a number of words or a file; got \[1\]"),
        ({"noise_floor": "yes"}, "noise_floor is True or False; got 'yes'"),
    ],
)
def test_arguments_of_another_kind_are_told_with_what_is_accepted(given, said):
    with pytest.raises(UsageError, match=said):
        tuneshift.run(**given)


def test_comparing_and_loading_say_what_they_take():
    with pytest.raises(UsageError, match=r"new is a run, as run\(\) and load_run\(\) return it; got 'a'"):
        tuneshift.compare_runs("a", "b")
    with pytest.raises(UsageError, match=r"path is a run.json or the folder that holds one; got 3"):
        tuneshift.load_run(3)


def test_mistakes_of_pairs(run, tiny_base, tiny_tuned, tmp_path):
    with pytest.raises(UsageError, match="base is given without tuned"):
        run(tiny_base)
    with pytest.raises(UsageError, match=r"base: './nowhere' is neither a folder"):
        run("./nowhere", tiny_tuned)
    with pytest.raises(UsageError, match="a pair file, an evidence file, a ModelPair or a list"):
        tuneshift.run(pairs=[])
    with pytest.raises(UsageError, match="prompts is empty"):
        tuneshift.run(tiny_base, tiny_tuned, prompts=[])
    with pytest.raises(UsageError, match=r"prompts: prompt set .* does not exist"):
        tuneshift.run(tiny_base, tiny_tuned, prompts=tmp_path / "none.jsonl")


def test_pairs_come_from_a_file_or_are_given(run, tiny_base, tiny_tuned, tiny_prompts, warm_store, tmp_path):
    file = tmp_path / "pairs.toml"
    file.write_text(
        f'[pairs.one]\nbase = "{tiny_base}"\ntuned = "{tiny_tuned}"\nprompts = ["{tiny_prompts}"]\n'
        f'[pairs.two]\nbase = "{tiny_base}"\ntuned = "{tiny_base}"\nprompts = ["{tiny_prompts}"]\n'
    )
    named = {"findings": (OWN, ended), "store": warm_store, "max_new_tokens": 12}
    of_file = tuneshift.run(pairs=file, **named)
    assert [claim["pair"] for claim in of_file.claims] == ["one", "two"]
    assert of_file.claims[1]["effect"] == 0
    known = tuneshift.load_pairs(str(file))
    assert tuneshift.run(pairs=list(known.values()), **named).claims == of_file.claims
    (alone,) = tuneshift.run(pairs=known["one"], **named).claims
    assert alone["effect"] == of_file.claims[0]["effect"]
    refs = [ModelRef(name=path.name, model=str(path)) for path in (tiny_base, tiny_tuned)]
    (of_refs,) = run(*refs, findings=(OWN, ended)).claims
    assert of_refs["effect"] == alone["effect"]
    assert of_refs["pair"] == "tiny-base-tiny-tuned"
    with pytest.raises(UsageError, match="one, one; each needs one of its own"):
        tuneshift.run(pairs=[known["one"], known["one"]], **named)


def test_a_run_is_saved_read_reported_and_compared(run, tmp_path):
    made = run(findings=["wu2023.instructions_stay_important", "hewitt2024.tuned_follows"])
    path = made.save(tmp_path / "out" / "run.json")
    read = tuneshift.load_run(path.parent)
    assert isinstance(read, Run)
    assert json.loads(json.dumps(made.claims)) == list(read.claims)
    assert tuneshift.load_run(path).run == read.run
    page = tuneshift.write_report(read, tmp_path / "report.html")
    assert "tuneshift.run(" in page.read_text()
    compared = tuneshift.compare_runs(made, read)
    assert {claim["comparison"]["outcome"] for claim in compared.claims} <= {"held", "not_compared"}
    assert "held" in {claim["comparison"]["outcome"] for claim in compared.claims}
    assert compared.examples == made.examples
    assert made.claims[0]["comparison"] is None  # the run that was given is left as it was
    storage = tuneshift.Baselines(folder=tmp_path / "baselines")
    storage.save(made, "good")
    with pytest.raises(UsageError, match="overwrite=True replaces it"):
        storage.save(made, "good")
    against = tuneshift.compare_runs(made, storage.load("good"))
    assert against.claims[0]["comparison"]["baseline"] == "good"
    tuneshift.write_report(against, tmp_path / "compared.html")


def test_runs_measured_otherwise_are_not_compared(run):
    own, reference = (run(findings="wu2023.*important", response=mode) for mode in ("own", "reference"))
    with pytest.raises(UsageError, match="response"):
        tuneshift.compare_runs(own, reference)


def test_the_readme_shows_a_script_that_runs(tmp_path, monkeypatch, warm_store):
    """On fewer prompts than the embedded pair's."""
    readme = Path(__file__).resolve().parents[2] / "README.md"
    code = readme.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    lines = (data_folder("fixtures") / "prompts" / "micro-heldout.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "few.jsonl").write_text("".join(lines[::29]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuneshift, "run", partial(tuneshift.run, prompts="./few.jsonl", store=warm_store))
    here: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), here)
    assert set(here["frame"].finding) == {c["finding"] for c in here["run"].claims}
    assert len(here["frame"]) == 3
    assert (tmp_path / "report.html").is_file()


def test_values_are_one_row_an_item(found):
    assert found.values == [
        {"finding": "f.<i>", "pair": "p", "prompts": "s", "group": "all", "arm": arm, "item": item, "value": value}
        for arm, item, value in (("base", "a", 0.0), ("base", "b", 1.0), ("tuned", "a", 1.0), ("tuned", "b", 1.0))
    ]


def test_rows_become_a_data_frame_of_what_is_not_nested(found):
    pandas = pytest.importorskip("pandas")
    frame = found.claims.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.loc[0, ["effect", "interval_low", "interval_high"]].tolist() == [0.5, 0.25, 0.75]
    assert not {"values", "figures", "interval"} & set(frame.columns)
    assert found.values.to_pandas().groupby("arm").value.mean().to_dict() == {"base": 0.5, "tuned": 1.0}


def test_without_pandas_the_message_names_it(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="needs the package pandas, which is not installed: pip install pandas"):
        found.claims.to_pandas()


def test_a_notebook_shows_a_table_with_everything_escaped(found):
    html = found._repr_html_()
    assert "f.&lt;i&gt;" in html
    assert "&lt;script&gt;no" in html
    assert "✔ reproduced" in html
    assert "[+0.25, +0.75]" in html
    assert "<script" not in html
    assert repr(found) == "Run(1 claim on p: 1 reproduced, 1 failed)"
    assert "<i>" not in found.claims._repr_html_()
    assert "5 more rows" in Rows([{"a": 1}] * 205)._repr_html_()
