"""``tuneshift doctor``: whether this machine, store and pair are ready for a run, and what to do where not."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import cache_folder
from ..session.options import default_store
from .common import OK, PROBLEMS, Commands, add_store

if TYPE_CHECKING:
    from ..doctor.machine import Check

SIGNS = {"ok": "✔ ok", "warn": "! warn", "fail": "✘ fail"}
WIDTH = 110
BASE, TUNED = "embedded:micro/base", "embedded:micro/instruct"


def add(commands: Commands) -> None:
    """Declare the command."""
    doctor = commands.add_parser(
        "doctor",
        help="check versions, device, disk, store and a pair; say what to do",
        description="Each line is ok, to know or to mend, and says what to do. Exit 1 where something is to be mended. "
        "Weights are read once, to find numbers that are none and two checkpoints that are one; none is loaded. "
        "Nothing contacts a network, unless --hub asks to or a hub id is given, which is downloaded as a run would.",
    )
    doctor.add_argument("--base", metavar="CHECKPOINT", help="as in `pytest suites` (default: the embedded pair's)")
    doctor.add_argument("--tuned", metavar="CHECKPOINT", help="as in `pytest suites` (default: the embedded pair's)")
    doctor.add_argument("--device", default="auto", metavar="DEVICE", help="as --shift-device there")
    doctor.add_argument(
        "--out", type=Path, default=Path("tuneshift-results"), metavar="DIR", help="as --shift-out there"
    )
    add_store(doctor)
    doctor.add_argument("--hub", action="store_true", help="also ask whether the Hugging Face hub answers")
    doctor.add_argument("--json", action="store_true", help="the checks as a JSON list")
    doctor.set_defaults(command=_examine)


def _examine(arguments: argparse.Namespace) -> int:
    checks = []
    for check in _checks(arguments):
        checks.append(check)
        if not arguments.json:
            _show(check)
    if arguments.json:
        print(json.dumps([asdict(check) for check in checks], indent=1, ensure_ascii=False))
    else:
        count = {state: sum(check.state == state for check in checks) for state in SIGNS}
        print(f"{len(checks)} checks: {count['ok']} ok, {count['warn']} to know, {count['fail']} to mend")
    return PROBLEMS if any(check.state == "fail" for check in checks) else OK


def _checks(arguments: argparse.Namespace) -> Iterator[Check]:
    """Every check, one after the other, so that a slow one does not hold back the lines before it."""
    from ..doctor import checkpoints as doctor_checkpoints
    from ..doctor import machine as doctor
    from ..pairs import resolve_pairs

    store = arguments.store or default_store()
    yield doctor.python_check()
    yield from doctor.package_checks()
    yield doctor.device_check(arguments.device)
    yield doctor.punkt_check()
    yield doctor.disk_check("store disk", store)
    yield doctor.disk_check("results disk", arguments.out)
    yield doctor.store_check(store)
    if arguments.hub:
        yield doctor.hub_check()
    base, tuned = (arguments.base, arguments.tuned) if arguments.base or arguments.tuned else (BASE, TUNED)
    (pair,) = resolve_pairs(
        base=base,
        tuned=() if tuned is None else (tuned,),
        pairs_file=None,
        names=[],
        prompts=[],
        here=Path.cwd(),
    )
    sound = True
    for role, ref in (("base", pair.base), ("tuned", pair.tuned)):
        files = doctor_checkpoints.files_check(role, ref)
        yield files
        if files.state == "fail":  # else every check below would say the same, and ask the hub again
            sound = False
            continue
        yield doctor_checkpoints.weights_check(role, ref)
        tokenizer = doctor_checkpoints.tokenizer_check(role, ref)
        yield tokenizer
        sound = sound and tokenizer.state != "fail"  # else what is said of the pair would be that again
        yield doctor_checkpoints.attention_check(role, ref)
    if sound:
        yield doctor_checkpoints.identity_check(pair.base, pair.tuned, cache_folder() / "fingerprints.json")
        yield doctor_checkpoints.tokenizers_check(pair.base, pair.tuned)
        yield doctor_checkpoints.template_check(pair.base, pair.tuned)


def _show(check: Check) -> None:
    print(textwrap.fill(f"{SIGNS[check.state]:7} {check.name}: {check.found}", WIDTH, subsequent_indent=" " * 8))
    if check.advice:
        print(textwrap.fill(check.advice, WIDTH, initial_indent="        -> ", subsequent_indent=" " * 11))
