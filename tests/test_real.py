"""The two real models: which prompts and pairs are taken, and a page that says what is there and what is not."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from gate_records import ids, pair_of, paired, record

from tuneshift.run_record import write_record

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "real"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    """A script of benchmarks/real, as Python runs it from its folder."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def loaded(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, found)  # run.py imports page
        spec.loader.exec_module(found)
        return found

    return loaded


def test_a_page_of_nothing_says_that_nothing_is_done(module, tmp_path):
    page = module("page")
    page.write_page(tmp_path / "work", tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text(encoding="utf-8").count(page.MISSING) == 4


def test_a_page_has_the_claims_of_the_records_as_they_are(module, tmp_path):
    page = module("page")
    base, copy = pair_of(ids(30), pair="gemma-270m"), pair_of(ids(30), pair="smollm2-int8")
    first, second = (paired([0.1 * (k % 3) for k in range(30)], pair=pair["name"]) for pair in (base, copy))
    for name, made in (("ranking", record([first], [base])), ("ladder-text", record([second], [copy]))):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write_record(made, tmp_path / "runs" / name / "run.json")
    card = {"examples": 1000, "learned": 45_000, "plan": {"epochs": 2}, "first_loss": 3.25, "final_loss": 2.5}
    (tmp_path / "instruction").mkdir()
    (tmp_path / "instruction" / "tuning.json").write_text(json.dumps(card))
    page.write_page(tmp_path, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    low, high = first["interval"]
    effect = f"{first['effect']:+.3f} [{low:+.3f}, {high:+.3f}] u, n = 30"
    assert f"| `a.first` | – | {effect} | {first['verdict']} |" in text
    assert f"| int8 | `a.first` | {effect} | {second['verdict']} |" in text
    assert "| instruction | 1,000 | 45,000 | 2 | 3.250 | 2.500 |" in text
    assert page.MISSING not in text


def test_prompts_have_a_rule_and_are_spread_over_the_tasks(module):
    run = module("run")
    for size in (60, 100):
        rows = run.spread_prompts(size)
        counts = Counter(row["task"] for row in rows).values()
        assert len(rows) == len({row["id"] for row in rows}) == size
        assert all("verify" in row for row in rows)
        assert max(counts) - min(counts) <= 3  # tasks with few rules run out
    assert {row["id"] for row in run.spread_prompts(60)} < {row["id"] for row in run.spread_prompts(100)}


def test_pairs_are_drawn_by_their_content_whatever_their_order(module):
    run = module("run")
    rows = [{"source": "dolly", "instruction": f"Do {k}.", "response": "x" * (k + 1)} for k in range(50)]
    rows += [{"source": "dolly", "instruction": "Long.", "response": "x" * 2000},
             {"source": "other", "instruction": "Do.", "response": "x"},
             {"source": "dolly", "instruction": " ", "response": "x"}]  # fmt: skip
    found = run.drawn(rows, "dolly", 20)
    assert found == run.drawn(rows[::-1], "dolly", 20)
    assert len(found) == 20
    assert len(run.drawn(rows, "dolly", 99)) == 50


def test_a_stage_is_interrupted_after_the_hours_and_a_command_that_fails_ends_the_run(
    module, tmp_path, capsys, monkeypatch
):
    run = module("run")
    nap = "import time; time.sleep(60)"
    monkeypatch.setattr(run, "STAGES", {"nap": lambda work: work.call(sys.executable, "-c", nap)})
    with pytest.raises(SystemExit) as ended:
        list(run.done(run.Work(tmp_path, tmp_path / "data", hours=0), ["nap"]))
    assert ended.value.code == 75
    assert "stage nap: the hours are over; the same command goes on" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="ended with exit code 3; mend what it says"):
        run.Work(tmp_path, tmp_path / "data", hours=1).call(sys.executable, "-c", "raise SystemExit(3)")
