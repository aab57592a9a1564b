"""The ``tuneshift`` command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tuneshift.cli import main
from tuneshift.commands.common import OK, PROBLEMS, USAGE
from tuneshift.findings import findings
from tuneshift.recording import make_record, write_record
from tuneshift.records import EvidenceItem, EvidenceKey, Finding
from tuneshift.store import Store

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


def test_report_of_something_else_says_so(tmp_path, capsys):
    assert main(["report", str(tmp_path / "none.json")]) == PROBLEMS
    assert "No run record" in capsys.readouterr().err


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for word in ("annotators", "outputs", "evidence", "report", "embedded", "tune", "pytest suites"):
        assert word in out


def test_annotators_prints_the_agreement_with_the_hand_labelled_lists(capsys):
    assert main(["annotators", "--word-vectors", "embedded:micro/words.npz"]) == OK
    out = capsys.readouterr().out
    assert "157 labelled lists (held-out half)" in out
    assert "| level | 157 |" in out


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
    assert [Finding(**{**row, "needs": tuple(map(tuple, row["needs"]))}) for row in listed] == list(findings())
