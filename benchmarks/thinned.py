"""Findings on importance with some response tokens attributed in place of all: how scores and verdicts move.

    python benchmarks/thinned.py ../shared/published/wu2023

The folder holds recorded evidence of LLaMA-7B and Vicuna-7B with all response tokens (`docs/pairs.md` has the format)
and the prompts that it was recorded on. Each N runs what `--shift-attribute-tokens N` does to it; "first N" cuts the
responses after N tokens instead, which is as cheap. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import tuneshift
from tuneshift import instruction_score
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.claims.view import View
from tuneshift.measures.attribution.density import Attribution
from tuneshift.measures.attribution.thinning import thinned
from tuneshift.plain import Json
from tuneshift.prompts.prompt import PromptSet, PromptSource
from tuneshift.prompts.sets import load_prompts
from tuneshift.store.recorded import read_recorded

COUNTS = (128, 64, 32, 16)
FINDINGS = (
    "wu2023.instruction_density_rises", "wu2023.density_marks_followed", "wu2023.instructions_stay_important",
    "wu2023.prompt_middle_recovers",
)  # fmt: skip
GROUPS = {"self-instruct": "user_oriented_task_*", "mt-bench": "mtbench_*"}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="How findings move where some response tokens are attributed alone.")
    parser.add_argument("folder", type=Path, help="recorded evidence, as {llama,vicuna}-7b.attributions.parquet")
    folder = parser.parse_args().folder
    pair = tuneshift.ModelPair(
        name="llama-vicuna",
        base=ModelRef(name="LLaMA-7B", evidence=folder / "llama-7b.attributions.parquet"),
        tuned=ModelRef(name="Vicuna-7B", evidence=folder / "vicuna-7b.attributions.parquet"),
        prompts=(PromptSource(path=str(folder / "prompts.jsonl"), groups=GROUPS),),
        ratings="vicuna_7b_rating",
    )
    with tempfile.TemporaryDirectory() as store:
        whole = claims(pair, store)
        some = {count: claims(pair, store, attribute_tokens=count) for count in COUNTS}
    print_claims(whole, some)
    print_scores(pair, load_prompts(pair.prompts[0], pair=pair.name))


def claims(pair: tuneshift.ModelPair, store: str, **settings: int) -> dict[tuple[str, str], Mapping[str, Json]]:
    """Claims by finding and group."""
    made = tuneshift.run(pairs=pair, findings=FINDINGS, store=store, **settings)  # type: ignore[arg-type]
    return {(claim["finding"], claim["group"]): claim for claim in made.claims}


def print_claims(
    whole: Mapping[tuple[str, str], Mapping[str, Json]],
    some: Mapping[int, Mapping[tuple[str, str], Mapping[str, Json]]],
) -> None:
    """A row for each claim: effect, interval and verdict by N; a verdict that is another one in capitals."""
    print("| finding, group | all | " + " | ".join(map(str, COUNTS)) + " |")
    print("| --- |" + " --- |" * (1 + len(COUNTS)))
    for key, claim in whole.items():
        cells = [told(claim, claim), *(told(some[count][key], claim) for count in COUNTS)]
        print(f"| {key[0].removeprefix('wu2023.')}, {key[1]} | " + " | ".join(cells) + " |")


def told(claim: Mapping[str, Json], whole: Mapping[str, Json]) -> str:
    """Effect, interval and verdict, and n where it is another than with all tokens."""
    low, high = claim["interval"]
    verdict = claim["verdict"] if claim["verdict"] == whole["verdict"] else claim["verdict"].upper()
    n = "" if claim["n"] == whole["n"] else f", n = {claim['n']}"
    return f"{claim['effect']:+.3f} [{low:+.3f}, {high:+.3f}] {verdict}{n}"


def print_scores(pair: tuneshift.ModelPair, prompts: PromptSet) -> None:
    """How the scores of prompts move: a row for each N, over all prompts of both groups."""
    items = {ref.name: read_recorded(ref.evidence, prompts) for ref in pair.checkpoints if ref.evidence is not None}
    names = {"base": pair.base.name, "tuned": pair.tuned.name}

    def read(count: int | None) -> dict[str, dict[str, Attribution]]:
        def needed(role: str, need: str):  # type: ignore[no-untyped-def]
            return {i.id: i if count is None else thinned(i, count) for i in items[names[role]]}

        view = View(pair=pair, prompts=prompts.prompts, items=needed, level=0.95, seed=0)
        return {role: view.attributions(role) for role in names}

    whole = read(None)
    print("\n| N | longer responses: base, tuned | mean score: base, tuned | effect | r with all: base, tuned |"
          " rms move: base, tuned | first N: mean score | first N: effect | first N: rms move |")  # fmt: skip
    print("| --- |" + " --- |" * 8)
    for count in (None, *COUNTS):
        some = read(count)
        cut = {
            role: {i: a if count is None else a.first(count) for i, a in read.items()} for role, read in whole.items()
        }
        full, thin, first = (scores(side) for side in (whole, some, cut))
        longer = [np.mean([a.thinned_from is not None for a in side.values()]) for side in some.values()]
        print(
            f"| {count or 'all'} | {both(longer, '.0%')} | {both(thin.mean(1), '.3f')} | {effect(thin):+.3f} | "
            f"{both([np.corrcoef(a, b)[0, 1] for a, b in zip(thin, full, strict=True)], '.3f')} | "
            f"{both(rms(thin - full), '.3f')} | {both(first.mean(1), '.3f')} | {effect(first):+.3f} | "
            f"{both(rms(first - full), '.3f')} |"
        )


def scores(read: Mapping[str, Mapping[str, Attribution]]) -> np.ndarray:
    """Scores [role, prompt]."""
    return np.array([[instruction_score(a) for a in side.values()] for side in read.values()], dtype=float)


def effect(found: np.ndarray) -> float:
    """Mean paired difference, tuned minus base."""
    return float((found[1] - found[0]).mean())


def rms(moves: np.ndarray) -> np.ndarray:
    """Root mean square over prompts, [role]."""
    return np.sqrt((moves**2).mean(1))


def both(values, form: str) -> str:  # type: ignore[no-untyped-def]
    """A number of each role."""
    return ", ".join(format(float(value), form) for value in values)


if __name__ == "__main__":
    main()
