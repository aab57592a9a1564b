"""The ``tuneshift`` command."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from gate_records import claim_with, ids, pair_of, run_of

from tuneshift.claims.catalogue import findings
from tuneshift.claims.finding import Finding
from tuneshift.cli import main
from tuneshift.commands.common import OK, PROBLEMS, USAGE
from tuneshift.run_record import make_record, write_record
from tuneshift.store.evidence import EvidenceItem, EvidenceKey
from tuneshift.store.store import Store

KEY = EvidenceKey(measure="attribution", version=1, params={}, checkpoint="c" * 64, dtype="float32", prompts="p")


@pytest.fixture
def store(tmp_path):
    root = tmp_path / "store"
    with Store(root).session(KEY, ("a", "b"), {}, chunk_size=1) as session:
        for number, ids in session.missing:
            session.write(number, [EvidenceItem(id=i, arrays={"x": np.arange(3.0)}) for i in ids])
    return root


def test_ls_names_measure_items_and_checkpoint(store, capsys):
    assert main(["evidence", "ls", "--store", str(store)]) == OK
    out = capsys.readouterr().out
    assert KEY.digest[:12] in out
    assert "attribution" in out
    assert "2 items" in out
    assert "1 sets" in out
    assert f"({KEY.checkpoint[:12]}) on prompts (p)" in out


def test_ls_says_which_checkpoint_and_which_prompts(tmp_path, capsys):
    hostile = {"checkpoint": "mine/\x1b[31mred", "on": "general"}
    for key, said in ((KEY, hostile), (replace(KEY, measure="relations", prompts=""), {"checkpoint": "m", "on": "x"})):
        with Store(tmp_path).session(key, ("a",), said, chunk_size=1) as session:
            session.write(0, [EvidenceItem(id="a")])
    assert main(["evidence", "ls", "--store", str(tmp_path)]) == OK
    prompts, weights, *_ = capsys.readouterr().out.splitlines()
    assert "  older key" in prompts
    assert prompts.partition("  older key")[0].endswith(f"mine/<U+001B>[31mred ({KEY.checkpoint[:12]}) on general (p)")
    assert weights.endswith(f"m ({KEY.checkpoint[:12]}) on weights")


def test_ls_lists_a_set_whose_chunk_cannot_be_read(store, capsys):
    next(store.rglob("chunk-00000.json")).write_text("{")
    assert main(["evidence", "ls", "--store", str(store)]) == OK
    assert "2 items" in capsys.readouterr().out


def test_verify_is_quiet_about_a_sound_store_and_names_a_damaged_file(store, capsys):
    assert main(["evidence", "verify", "--store", str(store)]) == OK
    assert "every checksum is right" in capsys.readouterr().out
    chunk = next(store.rglob("chunk-00000.safetensors"))
    chunk.write_bytes(chunk.read_bytes()[:-1] + bytes([chunk.read_bytes()[-1] ^ 1]))
    assert main(["evidence", "verify", "--store", str(store)]) == PROBLEMS
    out = capsys.readouterr().out
    assert "chunk-00000" in out
    assert "damaged" in out


def test_prune_wants_to_know_what_and_removes_only_that(store, capsys):
    assert main(["evidence", "prune", "--store", str(store)]) == USAGE
    assert "--older-than" in capsys.readouterr().err
    assert main(["evidence", "prune", "--store", str(store), "--incomplete"]) == OK
    assert list(store.rglob("key.json"))
    assert main(["evidence", "prune", "--store", str(store), "--older-than", "0", "--dry-run"]) == OK
    assert "would free" in capsys.readouterr().out
    assert list(store.rglob("key.json"))
    assert main(["evidence", "prune", "--store", str(store), "--older-than", "0"]) == OK
    assert not list(store.rglob("key.json"))


def test_a_store_that_is_not_there_is_a_usage_error(tmp_path, capsys):
    assert main(["evidence", "ls", "--store", str(tmp_path / "none")]) == USAGE
    assert "no evidence store" in capsys.readouterr().err


def test_report_renders_beside_the_record_or_where_told(tmp_path, capsys):
    path = write_record(make_record({"alpha": 0.05, "command": "pytest suites"}, [], []), tmp_path / "run.json")
    assert main(["report", str(path)]) == OK
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert main(["report", str(path), "-o", str(tmp_path / "other.html")]) == OK
    assert (tmp_path / "other.html").is_file()


def test_a_folder_stands_for_its_record(tmp_path, capsys):
    write_record(make_record({"alpha": 0.05, "command": "pytest suites"}, [], []), tmp_path / "run.json")
    assert main(["report", str(tmp_path)]) == OK
    assert (tmp_path / "report.html").is_file()
    assert main(["report", str(tmp_path), "-o", str(tmp_path)]) == USAGE
    assert "it is a folder. Name a file in it." in capsys.readouterr().err


def test_report_of_something_else_says_so(tmp_path, capsys):
    assert main(["report", str(tmp_path / "none.json")]) == USAGE
    assert "No run record" in capsys.readouterr().err


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for word in ("annotators", "judges", "outputs", "evidence", "report", "open", "embedded", "tune", "pytest suites"):
        assert word in out


def test_annotators_prints_the_agreement_with_the_hand_labelled_lists(capsys):
    assert main(["annotators", "--word-vectors", "embedded:micro/words.npz"]) == OK
    out = capsys.readouterr().out
    assert "157 labelled lists (held-out half)" in out
    assert "| level | 157 |" in out


def test_judges_prints_the_agreement_with_responses_judged_by_hand(capsys):
    assert main(["judges", "--judge", "similarity", "--word-vectors", "embedded:micro/words.npz"]) == OK
    assert "69 pairs of responses, one of which follows, judged by hand" in capsys.readouterr().out
    assert main(["judges", "--judge", "nobody"]) == USAGE
    assert "no judge is called 'nobody'" in capsys.readouterr().err


def test_an_unknown_annotator_is_a_usage_error(capsys):
    assert main(["annotators", "--annotator", "nobody"]) == USAGE
    assert "no annotator is called 'nobody'" in capsys.readouterr().err


def test_findings_lists_what_decides_each(capsys):
    assert main(["findings"]) == OK
    out = capsys.readouterr().out
    for finding in findings():
        assert f"\n{finding.id}\n" in f"\n{out}"
        assert f"source:     {finding.source}" in out
    assert "effect between -0.05 and 0.05 (share of wins), over prompts" in out
    assert "effect below -0.0167" in out
    assert out.endswith(f"{len(findings())} findings\n")


def test_findings_as_json_holds_every_field(capsys):
    assert main(["findings", "--json"]) == OK
    listed = json.loads(capsys.readouterr().out)
    read = [Finding(**{**row, "needs": tuple(map(tuple, row["needs"])), "asks": tuple(row["asks"])}) for row in listed]
    assert read == list(findings())


def run_record(pair, folder, name="run.json"):
    none = {"verdict": "not_applicable", "reason": "no ratings", "arms": [], "effect": None, "interval": [None, None]}
    claims = [claim_with(finding="x2024.one", title="One", pair=pair, **none)]
    return write_record(
        make_record(run_of(), [pair_of(ids(3), pair=pair, base=pair, tuned=pair)], claims), folder / name
    )


def test_report_of_several_records_shows_their_pairs_side_by_side(tmp_path, capsys):
    paths = [run_record("alpha", tmp_path, "a.json"), run_record("omega", tmp_path, "b.json")]
    assert main(["report", *map(str, paths), "-o", str(tmp_path / "both.html")]) == OK
    page = (tmp_path / "both.html").read_text()
    assert "across 2 pairs" in page or "on alpha and omega" in page
    assert '<table class="pairs">' in page
    summary = (tmp_path / "both.md").read_text()
    assert "| x2024.one | alpha · set |" in summary
    assert "| x2024.one | omega · set |" in summary
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "both.html"), str(tmp_path / "both.md")]


def test_report_puts_the_summary_beside_it(tmp_path):
    assert main(["report", str(run_record("alpha", tmp_path))]) == OK
    assert "x2024.one" in (tmp_path / "summary.md").read_text()


def test_report_does_not_write_the_summary_over_itself(tmp_path, capsys):
    assert main(["report", str(run_record("alpha", tmp_path)), "-o", str(tmp_path / "out.md")]) == USAGE
    assert "End it in .html" in capsys.readouterr().err
    assert not (tmp_path / "out.md").exists()


def test_report_takes_templates_from_a_folder_first(tmp_path, capsys):
    record, folder = run_record("alpha", tmp_path), tmp_path / "mine"
    assert main(["report", str(record), "--templates", str(folder)]) == USAGE
    assert f"folder of templates {folder} is not there" in capsys.readouterr().err
    folder.mkdir()
    (folder / "finding.html").write_text("<p>house style: {{ finding.id }} {{ hostile }}</p>")
    assert main(["report", str(record), "--templates", str(folder)]) == OK
    page = (tmp_path / "report.html").read_text()
    assert "<p>house style: x2024.one –</p>" in page
    assert 'id="provenance"' in page
    (folder / "finding.html").write_text("<p>{% if %}</p>")
    assert main(["report", str(record), "--templates", str(folder)]) == USAGE
    assert "A template fails (" in capsys.readouterr().err


def test_open_starts_the_browser_on_the_newest_report(tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    monkeypatch.chdir(tmp_path)
    assert main(["open"]) == USAGE
    assert "There is no report at tuneshift-results" in capsys.readouterr().err
    old, new = tmp_path / "tuneshift-results" / "report.html", tmp_path / "tuneshift-results" / "night" / "report.html"
    for age, path in ((100, old), (0, new)):
        path.parent.mkdir(exist_ok=True)
        path.write_text("<!doctype html>")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert main(["open"]) == OK
    assert capsys.readouterr().out.strip() == str(new)
    assert opened == [new.as_uri()]
    assert main(["open", str(old), "--print"]) == OK
    assert capsys.readouterr().out.strip() == str(old)
    assert len(opened) == 1


def test_open_says_what_is_missing(tmp_path, capsys, monkeypatch):
    assert main(["open", str(tmp_path)]) == USAGE
    assert "no HTML file" in capsys.readouterr().err
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    (tmp_path / "report.html").write_text("")
    assert main(["open", str(tmp_path)]) == PROBLEMS
    assert "No browser could be started" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["run.json", "summary.md", "./sub/../run.json"])
def test_a_report_is_not_written_over_a_record_that_it_reads(tmp_path, monkeypatch, capsys, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "run.json").write_text("the record")
    assert main(["report", "run.json", "-o", out]) == 4
    assert (tmp_path / "run.json").read_text() == "the record"
    if out != "summary.md":
        assert "would write" in capsys.readouterr().err


def test_a_summary_beside_the_report_is_not_written_over_a_record_either(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night.md").write_text("a record of that name")
    assert main(["report", "night.md", "-o", "night.html"]) == 4
    assert "--out would write night.md over night.md, which is read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["gate", "run.json", "--baseline", "b", "-o", "."], ["merge", "run.json", "b", "-o", "."]]
)
def test_gate_and_merge_do_not_write_over_their_records(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.json").write_text("the record")
    assert main(command) == 4
    assert "--out would write run.json over run.json" in capsys.readouterr().err
    assert (tmp_path / "run.json").read_text() == "the record"
