"""Two groups compared by a permutation within matched sets: is a label more than chance, among items that are alike?

Items that share what they are made of, as verbs share a model's embeddings, are no independent draws, and an interval
that takes them for such is too short. A permutation takes their values as they are and asks of the labels alone: would
others of the same sets have come out as far apart?
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..plain import Json
from .bootstrap import ROUNDING, fields_at, rounded_off
from .intervals import FLOAT32, TAIL, UNKNOWN, Interval, Intervals, NoIntervals
from .statistic import Arm, Statistic

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CONTROLS = 5
"""Most controls of one case: their mean then adds a fifth of a case's variance, and more could take off little."""
POOL_PER_CONTROL = 4
"""Controls to choose from for each that is taken, so that those taken are near; with fewer nothing is decided."""
PERMUTATIONS = 4999
"""Random ones, so that p goes down to 4e-4: a hundredth of the share of any family in the catalogue."""


@dataclass(frozen=True, kw_only=True)
class PermutationIntervals:
    """Shifts of one group that a permutation test does not reject: the test inverted.

    Each permutation is as extreme as what was seen from one shift on; ``low`` and ``high`` are the lowest and highest
    ``TAIL`` of these, sorted, as little-endian float32. ``same`` of the ``permutations``, what was seen among them, are
    as extreme at any shift, because they leave the labels as they are; where these alone are more than a tail there is
    no interval. A bound between the tails takes the nearer end of its tail, which widens the interval.
    """

    low: bytes
    high: bytes
    permutations: int
    same: int

    @classmethod
    def of(cls, shifts: Floats, *, same: int) -> PermutationIntervals:
        """From the shifts of all permutations that change a label, in any order, and the number of the others."""
        ordered = np.sort(shifts).astype(FLOAT32)
        kept = max(1, math.ceil(TAIL * len(ordered)))
        return cls(low=ordered[:kept].tobytes(), high=ordered[-kept:].tobytes(), permutations=len(ordered) + same,
                   same=same)  # fmt: skip

    def at(self, level: float) -> Interval:
        # A part in a billion keeps a tail of whole permutations whole.
        passed = math.floor((1 - level) / 2 * self.permutations * (1 + 1e-9)) - self.same
        if passed < 0:
            return UNKNOWN
        low, high = (np.frombuffer(tail, dtype=FLOAT32) for tail in (self.low, self.high))
        return (float(low[min(passed, len(low) - 1)]), float(high[-1 - min(passed, len(high) - 1)]))

    def coverage(self, level: float) -> float:
        return level

    def plain(self) -> dict[str, Json]:
        low, high = (base64.b64encode(tail).decode() for tail in (self.low, self.high))
        return {"kind": "permutation", "low": low, "high": high, "permutations": self.permutations, "same": self.same}


def fewest_sets(level: float) -> int:
    """Sets below which no interval is given at a level, with ``CONTROLS`` controls each: with S of them one labelling
    in (1 + CONTROLS) ** S leaves all labels as they are, and that may be no more than a tail of the permutations."""
    return math.ceil(math.log(2 / (1 - level)) / math.log(1 + CONTROLS))


def matched_difference(
    controls: Arm, cases: Arm, *, likeness: Mapping[str, float], level: float, seed: int,
    permutations: int = PERMUTATIONS,
) -> Statistic:  # fmt: skip
    """Mean of the cases less that of their matched controls, with the inverted permutation test's interval.

    Every case gets the same number of controls, one to ``CONTROLS`` and no more than a quarter of all, nearest in
    ``likeness`` (item id -> a number), none twice: in turn, the case of the highest likeness first. Where there are
    fewer controls than cases, the last cases are left out. Without an effect the case of each set is as likely any of
    its members: labels are drawn anew within sets. A shift of all cases by d is rejected where the permuted difference,
    of values less d, lies as far out as what was seen in at most half of 1 - ``level``, what was seen counted among the
    permutations (Phipson and Smyth 2010).

    It assumes that labels would fall on the members of a set alike, nothing of tails and not that items are
    independent. ``n`` and ``clusters`` are the sets, the arms hold their members, ``standard_error`` is the permuted
    difference's standard deviation with the effect taken out. No interval where no value differs within a set, where
    the sets have too few ways to be labelled, and with fewer than ``POOL_PER_CONTROL`` controls for each case: those
    that are nearest are not near then, and what likeness alone does is taken for an effect (``benchmarks/matched.py``).
    Details: ``controls_per_case``.
    """
    sets = matched_sets(*(np.array([likeness[i] for i in arm.ids], dtype=np.float64) for arm in (controls, cases)))
    chosen = np.sort(sets[:, 1:].ravel())
    arms = (_part(controls, chosen), _part(cases, np.sort(sets[:, 0])))
    found = Statistic(
        effect=rounded_off(arms[1].mean - arms[0].mean, max(map(_size, arms))),
        **fields_at(NoIntervals(), level),
        standard_error=math.nan,
        n=len(sets),
        clusters=len(sets),
        asked=sets.size,
        method="difference of means of matched groups, permutation within sets inverted",
        seed=seed,
        arms=arms,
        details={"controls_per_case": sets.shape[1] - 1},
    )
    if len(sets) == 0:
        return found
    if (known := len(controls.ids)) < (needed := POOL_PER_CONTROL * len(cases.ids)):
        few = f"{len(cases.ids)} {cases.label} choose their matches among {known} {controls.label}; it takes {needed}"
        return replace(found, details={**found.details, "no_interval": few})
    values = np.column_stack([cases.values[sets[:, 0]], controls.values[sets[:, 1:]]])  # [set, member]
    if float(np.ptp(values, axis=1).max()) <= ROUNDING * float(np.max(np.abs(values))):
        return replace(found, details={**found.details, "no_interval": "no value differs within its set"})
    drawn = np.random.default_rng(seed).integers(sets.shape[1], size=(permutations, len(sets)))
    return _decided(found, values, drawn)


def _size(arm: Arm) -> float:
    return float(np.max(np.abs(arm.values), initial=0.0))


def _decided(found: Statistic, values: Floats, drawn: Integers) -> Statistic:
    """The statistic with what permutations say: ``drawn`` is the member that each labels a case, [permutation, set]."""
    per = values.shape[1] - 1
    rest = values.sum(axis=1) / per  # A case less its controls: value * (1 + 1 / per) less the set's sum / per.
    permuted = (values[np.arange(len(values)), drawn] * (1 + 1 / per) - rest).mean(axis=1)
    moved = np.where(drawn == 0, 1.0, -1 / per).mean(axis=1)  # the permuted difference of a shift by 1
    changed = drawn.any(axis=1)
    shifts = (found.effect - permuted[changed]) / (1 - moved[changed])
    same = 1 + int(np.sum(~changed))
    if len(shifts) == 0:
        return found
    intervals: Intervals = PermutationIntervals.of(shifts, same=same)
    # A shift that ties with 0 up to rounding is as extreme.
    slack = ROUNDING * max(1.0, float(np.max(np.abs(shifts))))
    reached = min(int(np.sum(shifts <= slack)), int(np.sum(shifts >= -slack))) + same
    fields = fields_at(intervals, found.level)
    p = min(1.0, 2 * reached / (len(drawn) + 1)) if math.isfinite(fields["interval"][0]) else math.nan
    centred = permuted - found.effect * moved
    return replace(found, **{**fields, "p": p}, standard_error=float(np.std(centred)))


def matched_sets(controls: Floats, cases: Floats) -> Integers:
    """Sets of one case and its controls, [set, 1 + controls]: the case's index, then those of its controls.

    By likeness, [item] of each group; cases in the order of falling likeness choose in turn the nearest control left.
    """
    count = min(len(cases), len(controls))
    if count == 0:
        return np.zeros((0, 2), dtype=np.int64)
    per = max(1, min(CONTROLS, len(controls) // (POOL_PER_CONTROL * count)))
    order = np.argsort(-cases, kind="stable")[:count]
    left = np.ones(len(controls), dtype=np.bool_)
    sets = np.empty((count, 1 + per), dtype=np.int64)
    sets[:, 0] = order
    for turn in range(1, 1 + per):
        for row, case in enumerate(order):
            distance = np.where(left, np.abs(controls - cases[case]), np.inf)
            sets[row, turn] = int(np.argmin(distance))
            left[sets[row, turn]] = False
    return sets


def _part(arm: Arm, rows: Integers) -> Arm:
    return replace(arm, ids=tuple(arm.ids[row] for row in rows.tolist()), values=arm.values[rows])
