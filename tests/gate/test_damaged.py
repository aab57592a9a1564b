"""Damaged run records and baselines: no traceback, and no gate that says something else. Seeds are fixed;
TUNESHIFT_CAMPAIGN=1000 tries more."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gate_records import FINDING, ids, pair_of, paired, record
from hostile_values import byte_mutant, effort, json_mutant

from tuneshift.cli import main
from tuneshift.errors import RecordError
from tuneshift.gate.baselines import Baselines, Budget
from tuneshift.run_record import read_record, record_text, write_record

N = 60
USAGE = 4


def run(shift: float = 0.0, tuned: str = "next"):
    """A run of three claims, of which a comparison with another says held, regressed and worse."""
    rng = np.random.default_rng(5)
    base = rng.normal(0.4, 0.2, size=N)
    noise = np.random.default_rng(int(100 * shift)).normal(0, 0.08, size=N)
    losses = {"a.held": 0.0, "b.regressed": 0.4, "c.worse": 0.075}
    claims = [paired(base + (noise - loss if shift else 0), finding=replace(FINDING, id=name))
              for name, loss in losses.items()]  # fmt: skip
    return record(claims, [pair_of(ids(N), tuned=tuned)])


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path, list[str]]:
    """The baseline's file, the record's, and the command that gates the one by the other."""
    budget = Budget(looks=3, spending="even", alpha=0.05)
    baseline = Baselines(folder=tmp_path / "kept").save(run(tuned="old"), "good", budget=budget)
    path = write_record(run(shift=0.1), tmp_path / "run.json")
    return baseline, path, ["gate", str(path), "--baseline", "good", "--storage", str(tmp_path / "kept")]


def said(arguments: list[str], capsys) -> tuple[int, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out


def another_digit(data: bytes, rng: random.Random) -> bytes:
    """The text with one digit of a number changed."""
    places = [m.start() for m in re.finditer(rb"(?<=[-\d. :\[,])\d(?=[\d.,\n\]}e])", data)]
    at = rng.choice(places)
    digit = rng.choice([d for d in b"0123456789" if d != data[at]])
    return data[:at] + bytes([digit]) + data[at + 1 :]


def test_one_changed_digit_moves_no_gate(files, capsys):
    baseline, path, gate = files
    code, table = said(gate, capsys)
    assert code == 1
    assert all(outcome in table for outcome in ("= held", "▼ regressed", "↓ worse"))
    whole = {file: file.read_bytes() for file in (baseline, path)}
    codes: Counter[int] = Counter()
    for seed in range(effort(60)):
        rng = random.Random(seed)
        file = rng.choice(list(whole))
        file.write_bytes(another_digit(whole[file], rng))
        made = said(gate, capsys)
        codes[made[0]] += 1
        assert made[0] == USAGE or made == (code, table), seed
        file.write_bytes(whole[file])
    assert codes[USAGE] == effort(60)
    assert said(gate, capsys) == (code, table)


def test_no_damage_moves_a_gate_or_ends_in_a_traceback(files, capsys):
    baseline, path, gate = files
    code, table = said(gate, capsys)
    looks = baseline.with_name("looks.json")
    whole = {file: file.read_bytes() for file in (baseline, path, looks)}
    codes: Counter[int] = Counter()
    for seed in range(effort(80)):
        rng = random.Random(seed)
        file = rng.choice(list(whole))
        data = whole[file]
        hurt = json.dumps(json_mutant(json.loads(data), rng)).encode() if rng.random() < 0.5 else byte_mutant(data, rng)
        file.write_bytes(hurt)
        made = said(gate, capsys)
        codes[made[0]] += 1
        assert made[0] == USAGE or made == (code, table), (seed, file)
        for name, content in whole.items():
            name.write_bytes(content)
    assert codes[USAGE] > 0.9 * effort(80)


@pytest.mark.parametrize("command", ["gate", "bless", "merge", "report"])
def test_a_record_without_a_checksum_is_reported_and_decides_nothing(command, files, tmp_path, capsys):
    _, path, gate = files
    other = write_record(run(shift=0.1), tmp_path / "other.json")
    data = json.loads(path.read_bytes())
    del data["sha256"]
    path.write_text(json.dumps(data))
    assert not read_record(path).sealed
    arguments = {
        "gate": gate,
        "bless": ["bless", str(path), "--as", "next", "--storage", str(tmp_path / "kept")],
        "merge": ["merge", str(other), str(path), "-o", str(tmp_path / "all")],
        "report": ["report", str(path), "-o", str(tmp_path / "report.html")],
    }[command]
    code = main(arguments)
    message = capsys.readouterr().err
    assert code == (0 if command == "report" else USAGE)
    assert ("has no checksum" in message and "Run again" in message) == (command != "report")


def test_damage_to_a_record_without_a_checksum_is_no_traceback_in_a_report(tmp_path, capsys):
    whole = json.loads(record_text(run(shift=0.1)))
    del whole["sha256"]
    path = tmp_path / "run.json"
    codes: Counter[int] = Counter()
    for seed in range(effort(25)):
        path.write_text(json.dumps(json_mutant(whole, random.Random(seed))))
        codes[said(["report", str(path), "-o", str(tmp_path / "r.html")], capsys)[0]] += 1
    assert set(codes) <= {0, 1, USAGE}
    assert codes[1] + codes[USAGE]


def test_a_record_keeps_its_checksum_through_the_disk_and_any_edit_breaks_it(tmp_path):
    path = write_record(run(), tmp_path / "run.json")
    assert read_record(path).sealed
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data))  # other white space, the same content
    assert read_record(path).claims == run().claims
    data["claims"][0]["effect"] += 1e-6
    path.write_text(json.dumps(data))
    with pytest.raises(RecordError, match="its checksum does not fit its contents"):
        read_record(path)
