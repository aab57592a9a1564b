"""``tuneshift power``: how many prompts would decide a claim."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..claims.finding import Finding
from ..errors import UsageError, counted, did_you_mean
from .common import OK, Commands, read, record_file

if TYPE_CHECKING:
    from ..statistics.power import Decision, Design

SPREADS = (0.25, 0.5, 0.75, 1.0)
"""Standard deviations that are shown where none is known: a difference of two scores in 0..1 has at most 1."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row of the table: what is to be decided, and how precise the items are."""

    label: str
    decision: Decision
    sesoi: float
    effect: float
    design: Design
    claims: int
    """How many claims share the error rate: the size of the finding's family."""


def add(commands: Commands) -> None:
    """Declare the command."""
    power = commands.add_parser(
        "power", help="how many prompts would decide a claim, or the effect that a number of prompts can detect"
    )
    power.add_argument("--sesoi", type=float, metavar="X", help="smallest effect of interest, or margin")
    power.add_argument("--finding", metavar="ID", help="a finding's sesoi and direction; with --from only its claims")
    power.add_argument("--power", type=float, default=0.9, help="chance to decide it (default: %(default)s)")
    power.add_argument(
        "--alpha", type=float, default=0.05, help="error rate that the claims of a family share (default: %(default)s)"
    )
    power.add_argument(
        "--claims", type=int, metavar="M", help="how many share it (default: the finding's family; 1 for a sesoi alone)"
    )
    power.add_argument(
        "--sd", type=float, help="standard deviation of the per-item differences (default: a few are shown)"
    )
    power.add_argument(
        "--from",
        dest="record",
        type=record_file,
        metavar="RUN.json",
        help="take the precision of each claim of a run record",
    )
    power.add_argument("--cluster-size", type=int, metavar="K", help="items that share a cluster (default: 1)")
    power.add_argument("--icc", type=float, help="correlation of items within a cluster, 0 to 1 (default: 0)")
    power.add_argument("--effect", type=float, metavar="X", help="assumed true effect (default: see --decision)")
    power.add_argument(
        "--decision", choices=("beyond", "noninferior", "equivalent"),
        help="beyond the sesoi (default; effect assumed: twice the sesoi), no loss past it or equivalent within it "
        "(effect assumed: 0)",
    )  # fmt: skip
    power.add_argument("--n", type=int, help="print what so many prompts can detect instead")
    power.set_defaults(command=_power)


def _power(arguments: argparse.Namespace) -> int:
    from ..claims.catalogue import findings

    _check(arguments)
    known = findings()
    try:
        rows = list(_questions(arguments, _finding(arguments.finding, known)))
        table = [_row(q, arguments, 1 - arguments.alpha / q.claims) for q in rows]
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"Nothing can be planned: {error}.") from error
    answer = "prompts" if arguments.n is None else f"detectable at n = {arguments.n}"
    _show([("for", "decision", "sesoi", "assumed effect", "sd of an item", "cluster size", answer), *table])
    print(
        f"\nError rate {arguments.alpha:g} shared by {_shown_shares({q.claims for q in rows}, arguments.alpha)}. Power "
        f"{arguments.power:g} of the noncentral t, clusters less one degrees of freedom; the sd includes the clusters' "
        "design effect."
    )
    if arguments.record is None and arguments.sd is None:
        print("The sd of the per-item differences is not known: name it with --sd, or a run that shows it with --from.")
    return OK


def _shown_shares(sizes: set[int], alpha: float) -> str:
    """Each number of claims that share an error rate, with the coverage of their intervals."""
    shares = (f"{counted(m, 'claim')} (intervals of coverage {1 - alpha / m:.5g})" for m in sorted(sizes))
    return " or by ".join(shares)


def _check(arguments: argparse.Namespace) -> None:
    for name in ("power", "alpha"):
        if not 0 < getattr(arguments, name) < 1:
            raise UsageError(f"--{name} is {getattr(arguments, name)}; it lies between 0 and 1.")
    for name in ("claims", "cluster_size", "n"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} is {value}; it is a number of at least 1.")
    if arguments.sesoi is not None and not 0 <= arguments.sesoi < math.inf:
        raise UsageError(f"--sesoi is {arguments.sesoi}; it is a finite size of an effect, 0 or above.")
    if arguments.sd is not None and not 0 < arguments.sd < math.inf:
        raise UsageError(f"--sd is {arguments.sd}; it is a finite standard deviation above 0.")
    if arguments.icc is not None and not 0 <= arguments.icc <= 1:
        raise UsageError(f"--icc is {arguments.icc}; a correlation within clusters lies within 0 to 1.")
    if arguments.effect is not None and not math.isfinite(arguments.effect):
        raise UsageError(f"--effect is {arguments.effect}; it is a finite number in the effect's unit.")
    if arguments.sesoi is None and arguments.finding is None and arguments.record is None:
        raise UsageError("Say what is to be decided: --sesoi X, --finding ID, or --from RUN.json for its claims.")
    if arguments.record is not None and (arguments.sd, arguments.cluster_size, arguments.icc) != (None, None, None):
        raise UsageError("--from takes spread and clusters from the run; leave out --sd, --cluster-size and --icc.")


def _finding(wanted: str | None, known: tuple[Finding, ...]) -> Finding | None:
    if wanted is None:
        return None
    for finding in known:
        if finding.id == wanted:
            return finding
    raise UsageError(f"--finding {wanted}: no such finding; {did_you_mean(wanted, [f.id for f in known])}.")


def _questions(arguments: argparse.Namespace, finding: Finding | None) -> Iterator[Question]:
    from ..statistics.power import clustered_design

    if arguments.record is not None:
        yield from _of_record(arguments, finding)
        return
    sesoi = arguments.sesoi if finding is None or arguments.sesoi is not None else finding.sesoi
    size, icc = arguments.cluster_size or 1, arguments.icc or 0.0
    for sd in SPREADS if arguments.sd is None else (arguments.sd,):
        design = clustered_design(sd=sd, cluster_size=size, icc=icc)
        label = finding.id if finding else "a claim"
        direction = finding.direction if finding else "greater"
        kept = finding is not None and finding.noninferior
        yield _question(arguments, label, direction, sesoi, design, claims=_family_size(finding), noninferior=kept)


def _of_record(arguments: argparse.Namespace, finding: Finding | None) -> Iterator[Question]:
    """The claims of a run record that more prompts could decide."""
    from ..statistics.power import observed_design

    found = False
    for claim in read(arguments.record).claims:
        if finding is not None and claim.get("finding") != finding.id:
            continue
        precise = _number(claim.get("standard_error")) and claim["standard_error"] > 0
        if claim.get("items", "prompts") != "prompts" or not precise:
            continue
        found = True
        try:
            design = observed_design(standard_error=claim["standard_error"], n=claim["n"], clusters=claim["clusters"])
            sesoi = claim["sesoi"] if arguments.sesoi is None else arguments.sesoi
            label = f"{claim['finding']} ({claim['prompts']}, {claim['group']})"
            shared = claim.get("family_size", 1)
            kept = claim.get("noninferior", False)
            question = _question(arguments, label, claim["direction"], sesoi, design, claims=shared, noninferior=kept)
        except (KeyError, TypeError) as error:
            raise UsageError(f"{arguments.record}: a claim is damaged ({error}).") from error
        yield question
    if not found:
        raise UsageError(
            f"{arguments.record} has no claim on prompts with a standard error"
            + (f" for {finding.id}" if finding else "") + "; name a spread with --sd instead."
        )  # fmt: skip


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _family_size(finding: Finding | None) -> int:
    from ..claims.catalogue import findings
    from ..claims.decisions import family_size

    return 1 if finding is None else family_size(finding, findings())


def _question(
    arguments: argparse.Namespace, label: str, direction: str, sesoi: float, design: Design, *, claims: int,
    noninferior: bool,
) -> Question:  # fmt: skip
    usual: Decision = "noninferior" if noninferior else "equivalent" if direction == "equivalent" else "beyond"
    decision: Decision = arguments.decision or usual
    assumed = arguments.effect
    if assumed is None:
        assumed = 2 * sesoi if decision == "beyond" else 0.0
    elif direction == "less" and decision == "beyond":
        # The claim is of a fall; planning counts effects in the claimed direction.
        assumed = -assumed
    shared = claims if arguments.claims is None else arguments.claims
    return Question(
        label=label, decision=decision, sesoi=sesoi, effect=assumed, design=design, claims=shared
    )  # fmt: skip


def _row(question: Question, arguments: argparse.Namespace, level: float) -> tuple[str, ...]:
    answer: Callable[..., str] = _needed if arguments.n is None else _detectable
    # What is detectable beyond the sesoi rests on no assumed effect.
    unused = arguments.n is not None and question.decision == "beyond"
    assumed = "" if unused else f"{question.effect:g}"
    return (
        question.label, question.decision, f"{question.sesoi:g}", assumed,
        f"{question.design.unit_error:.3g}", f"{question.design.cluster_size:.3g}",
        answer(question, arguments, level),
    )  # fmt: skip


def _needed(question: Question, arguments: argparse.Namespace, level: float) -> str:
    from ..statistics.power import LARGEST_N, items_needed

    n = items_needed(
        effect=question.effect, bound=question.sesoi, decision=question.decision, power=arguments.power, level=level,
        design=question.design,
    )  # fmt: skip
    return f"none up to {LARGEST_N}" if n is None else str(n)


def _detectable(question: Question, arguments: argparse.Namespace, level: float) -> str:
    from ..statistics.power import minimal_distance

    distance = minimal_distance(
        arguments.n, bounds=2 if question.decision == "equivalent" else 1, power=arguments.power, level=level,
        design=question.design,
    )  # fmt: skip
    if distance is None:
        return f"nothing: an interval takes {question.design.fewest(level)} prompts"
    return {
        "beyond": f"an effect of {question.sesoi + distance:.3g}",
        "noninferior": f"a margin of {max(0.0, distance - question.effect):.3g}",
        "equivalent": f"a margin of {distance + abs(question.effect):.3g}",
    }[question.decision]


def _show(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
