"""The intervals that a record's plain form describes, of every kind: the counterpart of each kind's ``plain``."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence

from ..errors import RecordError
from ..plain import Json
from .autocorrelated import SeriesT
from .bounded import BoundedDifference, BoundedMean, BoundedT
from .intervals import AllWithin, AtBound, Bca, Expanded, Intervals, NoIntervals, StudentT, TwoOneSided, Wilson
from .jackknife import LogitT, LogitTChange
from .matched import PermutationIntervals
from .misclassification import read_corrected
from .paired_binary import PairedBinary
from .tail_error import SkewedT


def intervals_of(plain: Mapping[str, Json] | None) -> Intervals:
    """The intervals of a record's plain form; none for null. Raises RecordError for a form that is not known."""
    if plain is None:
        return NoIntervals()
    try:
        return _read(plain)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"A claim's `intervals` cannot be read ({error!r}); the record was edited or cut.") from error


def _read(plain: Mapping[str, Json]) -> Intervals:
    fields = {name: value for name, value in plain.items() if name != "kind"}
    match plain["kind"]:
        case "none":
            return NoIntervals()
        case "t":
            return _student(fields)
        case "series t":
            return SeriesT(steps=tuple(_student(_without_kind(step)) for step in fields["steps"]))
        case "skewed t":
            return SkewedT.read(fields)
        case "logit t":
            return _logit(fields)
        case "logit t change":
            correlation = float(fields["correlation"])
            return LogitTChange(before=_logit(fields["before"]), after=_logit(fields["after"]), correlation=correlation)
        case "bounded mean":
            return BoundedMean.read(fields)
        case "bounded difference":
            return _difference(fields)
        case "bounded t":
            bounded = fields["bounded"]
            inner = BoundedMean.read(bounded) if bounded["kind"] == "bounded mean" else _difference(bounded)
            return BoundedT(t=SkewedT.read(_without_kind(fields["t"])), bounded=inner)
        case "paired binary":
            return PairedBinary.read(fields)
        case "bound":
            return AtBound(**fields)
        case "wilson":
            return Wilson(**fields)
        case "bca":
            low, high = (base64.b64decode(fields[side]) for side in ("low", "high"))
            return Bca(**{**fields, "low": low, "high": high})
        case "permutation":
            low, high = (base64.b64decode(fields[side]) for side in ("low", "high"))
            return PermutationIntervals(**{**fields, "low": low, "high": high})
        case "two one-sided":
            return TwoOneSided(inner=_read(fields["inner"]))
        case "corrected":
            return read_corrected(fields, _read(fields["inner"]))
        case "expanded":
            return Expanded(inner=_read(fields["inner"]), units=float(fields["units"]))
        case "all within":
            parts: Sequence[Mapping[str, Json]] = fields["of"]
            return AllWithin(of=tuple(_read(part) for part in parts), margin=float(fields["margin"]))
        case other:
            raise ValueError(f"no intervals are of the kind {other!r}")


def _without_kind(plain: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in plain.items() if name != "kind"}


def _student(plain: Mapping[str, Json]) -> StudentT:
    fields = _without_kind(plain)
    return StudentT(**{**fields, "freedom": math.nan if fields["freedom"] is None else float(fields["freedom"])})


def _logit(plain: Mapping[str, Json]) -> LogitT:
    return LogitT(inner=_student(plain["inner"]), low=float(plain["low"]), high=float(plain["high"]))


def _difference(plain: Mapping[str, Json]) -> BoundedDifference:
    return BoundedDifference(first=BoundedMean.read(plain["first"]), second=BoundedMean.read(plain["second"]))
