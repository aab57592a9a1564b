"""What the gate says of six checkpoints at 58, 348 and 1,000 prompts; the embedded tuned model is the baseline.

    python benchmarks/gate_demonstration.py [--out DIR] [--sizes 58 348 1000] [--prepare]

The checkpoints are the same weights in other files, copies in bfloat16 and in int8 (each row of a matrix rounded to 255
levels by this script and stored dequantised), normal noise of 10 and 30 % of each matrix's standard deviation, and half
of the tuning undone (the mean of base and tuned weights). Prompts are exercises that the family was not tuned on, in
wordings that it was not tuned on either: the shipped 348, a sixth of them, and 1,000 of other draws. Three findings
are asked, of generation and of likelihood, each gate as `pytest suites` runs it. The evidence lies below DIR, so that a
second call only decides again; --prepare measures and decides nothing. Two hours of one core when cold.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from damage import noisy, rounded
from safetensors.torch import load_file, save_file

from tuneshift.embedded.recipe import load_workbook
from tuneshift.embedded.siblings import held_out_exercises, prompt_lines
from tuneshift.resources import data_folder, fixture

FAMILY = fixture("models/micro")
FINDINGS = ("hewitt2024.tuned_follows", "hewitt2024.ranking_survives_tuning", "hewitt2024.base_ranks_responses")
LONGEST = 40
"""Tokens of a response; the longest reference has 30."""

Tensor = torch.Tensor
Change = Callable[[Tensor, Tensor], Tensor]


def noise(share: float) -> Change:
    change = noisy(share)
    return lambda tuned, base: change(tuned)


CHECKPOINTS: Mapping[str, Change | None] = {
    "same": None,
    "bf16 copy": lambda tuned, base: tuned.to(torch.bfloat16),
    "int8 copy": lambda tuned, base: rounded(tuned, 8),
    "10 % noise": noise(0.1),
    "30 % noise": noise(0.3),
    "half undone": lambda tuned, base: (tuned + base) / 2,
}


def write_checkpoint(folder: Path, change: Change | None) -> Path:
    """A copy of the embedded tuned checkpoint, whose files hold bfloat16; where there is a change, with its weights
    taken to float32 and changed, knowing those of the base."""
    if folder.exists():
        return folder
    scratch = folder.with_suffix(".part")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(FAMILY / "instruct", scratch)
    for path in scratch.glob("*.safetensors") if change is not None else ():
        tuned, base = (load_file(FAMILY / member / path.name) for member in ("instruct", "base"))
        assert change is not None
        changed = {name: change(tuned[name].float(), base[name].float()).contiguous() for name in tuned}
        save_file(changed, path, {"format": "pt"})
    return scratch.rename(folder)


def write_prompts(folder: Path, size: int) -> Path:
    """A prompt set of so many exercises."""
    path = folder / f"heldout-{size}.jsonl"
    shipped = fixture("prompts/micro-heldout.jsonl").read_text(encoding="utf-8").splitlines()
    if size <= len(shipped):
        lines = shipped[:: len(shipped) // size][:size]
    else:
        drawn = prompt_lines(held_out_exercises(load_workbook(0), size // 40, seed=1))
        lines = [drawn[k * len(drawn) // size] for k in range(size)]
    if len(lines) != size:
        raise SystemExit(f"{size} prompts are asked for, {len(lines)} can be drawn")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def suites(out: Path, tuned: Path, prompts: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and record of a run of the three findings."""
    results = out / "results"
    command = [
        sys.executable, "-m", "pytest", str(data_folder("suites") / "test_implicit_following.py"), "-q", "--color=no",
        "-p", "no:cacheprovider", f"--base={FAMILY / 'base'}", f"--tuned={tuned}", f"--shift-prompts={prompts}",
        f"--shift-max-new-tokens={LONGEST}", f"--shift-store={out / 'store'}", f"--shift-storage={out / 'kept'}",
        f"--shift-out={results}", *(f"--finding={finding}" for finding in FINDINGS), *options,
    ]  # fmt: skip
    shutil.rmtree(results, ignore_errors=True)
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if not (results / "run.json").exists():
        raise SystemExit(done.stdout + done.stderr)
    record: dict[str, Any] = json.loads((results / "run.json").read_text())
    return done.returncode, record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gate-demonstration"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[58, 348, 1000])
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    folders = {name: write_checkpoint(out / name.replace(" ", "-").replace("%", "percent"), change)
               for name, change in CHECKPOINTS.items()}  # fmt: skip
    if not options.prepare:
        print("| n | checkpoint | exit | " + " | ".join(f.partition(".")[2] for f in FINDINGS[:2]) + " | the gate |")
        print("| ---: | --- | ---: | --- | --- | --- |")
    sees = {}
    for size in options.sizes:
        prompts = write_prompts(out, size)
        if options.prepare:
            for name, folder in folders.items():
                print(size, name, suites(out, folder, prompts)[0], flush=True)
            continue
        suites(out, FAMILY / "instruct", prompts, f"--shift-save=of-{size}", "--shift-overwrite")
        for name, folder in folders.items():
            code, record = suites(out, folder, prompts, f"--shift-compare=of-{size}")
            claims = {claim["finding"]: claim["comparison"] for claim in record["claims"]}
            assert claims[FINDINGS[2]]["same_evidence"], "the base was replaced by nobody"
            cells = [cell(claims[finding]) for finding in FINDINGS[:2]]
            gate = record["run"]["gate"]
            sees[size, name] = gate["sees_text"]
            print(f"| {size} | {name} | {code} | {' | '.join(cells)} | {gate['conclusion']} |", flush=True)
    for size, text in dict.fromkeys((size, text) for (size, _), text in sees.items()):
        names = ", ".join(name for name in CHECKPOINTS if sees[size, name] == text)
        print(f"\n{size} prompts ({names}): {text}")


def cell(held: Mapping[str, Any]) -> str:
    """Outcome and change of a claim."""
    if held["same_evidence"]:
        return "held (same evidence)"
    (low, high), effect = held["interval"], held["effect"]
    ends = "no interval" if low is None else f"{low:+.3f}, {high:+.3f}"
    return f"{held['outcome']} {effect:+.3f} [{ends}]"


if __name__ == "__main__":
    main()
