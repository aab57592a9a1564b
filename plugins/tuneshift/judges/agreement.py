"""How far a judge agrees with responses judged by hand: Cohen's kappa with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..parse import parse_json
from ..plain import Json
from ..prompts.prompt import Prompt
from ..prompts.sets import load_prompts
from ..resources import fixture
from ..statistics.kappa import FAILED, SEED, kappa_figure, kappa_of, kappa_text
from .base import Comparison, Judge, Scores

if TYPE_CHECKING:
    from ..statistics.kappa import Kappa

JUDGED = "judging/judged.jsonl"
FOLLOWS, FAILS = "follows", "does not"
FIRST_BETTER, SECOND_BETTER, NEITHER = "the first", "the second", "tie"
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A response to a prompt of a shipped set, and whether it follows by hand."""

    id: str
    set: str
    prompt: Prompt
    response: str
    follows: bool


@dataclass(frozen=True, kw_only=True)
class JudgeAgreement:
    """A judge against responses judged by hand.

    Of a judge of single responses: whether each follows. Of a pairwise judge: which of a prompt's two responses is the
    better, asked where one follows and the other does not. ``kappas``: over `ALL` and by prompt set; ``asked`` counts
    responses or pairs, ``unjudged`` those without a score, which count as disagreements.
    """

    judge: Mapping[str, Json]
    pairwise: bool
    asked: int
    unjudged: int
    kappas: tuple[Kappa, ...]

    def plain(self) -> dict[str, Json]:
        """JSON for the run record, to stand beside every verdict that rests on the judge."""
        return {
            "judge": dict(self.judge),
            "pairwise": self.pairwise,
            "asked": self.asked,
            "unjudged": self.unjudged,
            "kappas": [kappa.plain() for kappa in self.kappas],
        }


def judged_responses(path: Path | None = None) -> tuple[Judged, ...]:
    """The responses judged by hand of a JSONL file (default: the shipped ones), in file order.

    Raises UsageError with file and line for a line that departs from ``fixtures/judging/README.md``.
    """
    source = fixture(JUDGED) if path is None else path
    found: dict[str, Judged] = {}
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = parse_json(line)
            prompt = _prompts(row["set"])[row["prompt"]]
            item = Judged(id=row["id"], set=row["set"], prompt=prompt, response=row["response"], follows=row["follows"])
            if item.id in found or not isinstance(item.follows, bool) or not isinstance(item.response, str):
                raise ValueError("ids are unique, response is a text, and follows is true or false")
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{source}:{number}: not a judged response ({type(error).__name__}: {error}).") from error
        found[item.id] = item
    return tuple(found.values())


@cache
def _prompts(name: str) -> Mapping[str, Prompt]:
    return {prompt.id: prompt for prompt in load_prompts(name).prompts}


def agreement(judge: Judge, judged: Sequence[Judged] | None = None, *, seed: int = SEED) -> JudgeAgreement:
    """A judge's agreement with responses judged by hand; resamples take a prompt's responses together.

    Raises what `Judge.scores` raises, and ValueError where nothing could be asked.
    """
    items = judged_responses() if judged is None else judged
    names: tuple[str, ...]
    if judge.pairwise:
        pairs = _pairs(items)
        comparisons = [_comparison(first, second) for first, second in pairs]
        truth = [FIRST_BETTER if first.follows else SECOND_BETTER for first, _ in pairs]
        names, of, sets = (FIRST_BETTER, SECOND_BETTER, NEITHER), _better, [first.set for first, _ in pairs]
    else:
        comparisons = [_comparison(item, item) for item in items]
        truth = [FOLLOWS if item.follows else FAILS for item in items]
        names, of, sets = (FOLLOWS, FAILS), _follows, [item.set for item in items]
    if not comparisons:
        raise ValueError("no judged response can be asked about: a pairwise judge needs two to a prompt that differ")
    answers = [of(scores) for scores in judge.scores(comparisons)]
    clusters = [f"{name} {c.prompt.id}" for name, c in zip(sets, comparisons, strict=True)]

    def kappa(name: str) -> Kappa:
        rows = [k for k, of_set in enumerate(sets) if name in (ALL, of_set)]
        hand, given, labels = ([values[k] for k in rows] for values in (truth, answers, clusters))
        return kappa_of(name, hand, [given], names, clusters=labels, seed=seed)

    return JudgeAgreement(
        judge=judge.identity,
        pairwise=judge.pairwise,
        asked=len(comparisons),
        unjudged=answers.count(FAILED),
        kappas=tuple(kappa(name) for name in (ALL, *dict.fromkeys(sets))),
    )


def _pairs(items: Sequence[Judged]) -> list[tuple[Judged, Judged]]:
    """Responses to one prompt of which one follows; the one that does comes first in every second pair."""
    by_prompt: dict[tuple[str, str], list[Judged]] = {}
    for item in items:
        by_prompt.setdefault((item.set, item.prompt.id), []).append(item)
    differing = [
        (good, bad) for group in by_prompt.values() for good in group if good.follows for bad in group
        if not bad.follows
    ]  # fmt: skip
    return [pair if k % 2 == 0 else (pair[1], pair[0]) for k, pair in enumerate(differing)]


def _comparison(first: Judged, second: Judged) -> Comparison:
    return Comparison(prompt=first.prompt, first=first.response, second=second.response, first_ended=True,
                      second_ended=True)  # fmt: skip


def _follows(scores: Scores | None) -> str:
    return FAILED if scores is None else FOLLOWS if scores[0] > 0.5 else FAILS


def _better(scores: Scores | None) -> str:
    if scores is None:
        return FAILED
    return NEITHER if scores[0] == scores[1] else FIRST_BETTER if scores[0] > scores[1] else SECOND_BETTER


def in_short(found: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """What `JudgeAgreement.plain` gives of each judge, for a claim's details: by judge and prompt set kappa, its
    interval and n."""
    return {
        str(one["judge"]["judge"]): {
            kappa["name"]: {"kappa": kappa["kappa"], "interval": kappa["interval"], "n": _asked(kappa)}
            for kappa in one["kappas"]
        }
        for one in found
    }  # fmt: skip


def agreement_text(judge: Judge) -> str:
    """A judge's agreement with the shipped responses, as Markdown."""
    return markdown(agreement(judge).plain())


def markdown(found: Mapping[str, Json]) -> str:
    """`JudgeAgreement.plain` as Markdown: kappa over all and by prompt set, and the confusion table of all."""
    what = "pairs of responses, one of which follows" if found["pairwise"] else "responses"
    whole = found["kappas"][0]
    lines = [
        f"{found['asked']} {what}, judged by hand; {found['unjudged']} without a score.",
        "",
        "| prompts | n | agree | kappa | 95 % interval |",
        "| --- | ---: | ---: | ---: | --- |",
        *(_kappa_line(kappa) for kappa in found["kappas"]),
        "",
        f"| by hand | {' | '.join(whole['columns'])} |",
        "| --- |" + " ---: |" * len(whole["columns"]),
        *(
            f"| {name} | {' | '.join(map(str, row))} |"
            for name, row in zip(whole["rows"], whole["confusion"], strict=True)
            if any(row)
        ),
    ]
    return "\n".join(lines) + "\n"


def _kappa_line(kappa: Mapping[str, Json]) -> str:
    rows = kappa["confusion"]
    agree = sum(row[k] for k, row in enumerate(rows))
    return f"| {kappa['name']} | {_asked(kappa)} | {agree} | {' | '.join(kappa_text(kappa))} |"


def _asked(kappa: Mapping[str, Json]) -> int:
    return sum(map(sum, kappa["confusion"]))


def agreement_figure(found: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """What `JudgeAgreement.plain` gives of each judge, as a figure of the report: kappa with its interval."""
    return kappa_figure(
        ((str(one["judge"]["judge"]), kappa, _asked(kappa)) for one in found for kappa in one["kappas"]),
        title="How far the judge can be trusted",
        caption="Cohen's kappa of the judge with 150 responses judged by hand, over all and by prompt set: 1 is "
        "agreement, 0 what chance gives. A pairwise judge is asked which of two responses follows. One author wrote "
        "and judged the responses, and knew the rules.",
    )
