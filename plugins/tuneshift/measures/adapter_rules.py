"""The rules of the adapter of arXiv:2409.14254, as data: which there are, and how a file gives them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from ..errors import UsageError, did_you_mean
from ..parse import MalformedError, parse_toml
from ..plain import Json
from ..resources import fixture

RULES = ("end", "uniform", "diversity")
SHIPPED = "adapters"
SUFFIX = ".toml"


@dataclass(frozen=True, kw_only=True)
class EndRule:
    """The end token gets ``score * t / steps`` nats after t response tokens, 0 < t < ``steps``; else nothing."""

    score: float
    steps: int

    def at(self, t: int) -> float:
        """The end token's score in nats where t response tokens stand before it."""
        return self.score * t / self.steps if 0 < t < self.steps else 0.0


@dataclass(frozen=True, kw_only=True)
class UniformRule:
    """Texts of single tokens, leading space included, and the nats that they get at every step."""

    scores: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class DiversityRule:
    """Nats that each token id gets, once, as soon as the user's turn or the response has it."""

    score: float


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """The rules of an adapter; None is a rule that is off. ``dataclasses.asdict`` of it is plain JSON."""

    end: EndRule | None = None
    uniform: UniformRule | None = None
    diversity: DiversityRule | None = None

    @property
    def on(self) -> tuple[str, ...]:
        """Names of the rules that are on, of ``end``, ``uniform`` and ``diversity``."""
        return tuple(name for name in RULES if getattr(self, name) is not None)

    def without(self, *names: str) -> RuleSettings:
        """The same with these rules off: an ablation. Raises ValueError for a name that is no rule."""
        for name in names:
            if name not in RULES:
                raise ValueError(f"there is no rule {name!r} to leave out; {did_you_mean(name, RULES)}.")
        off: dict[str, Any] = dict.fromkeys(names)
        return replace(self, **off)


def load_rules(spec: str = "hewitt2024") -> RuleSettings:
    """The rules of a TOML file: a shipped name, or a path (with a separator or ``.toml``).

    ``fixtures/adapters/README.md`` has the form. Raises UsageError, naming file, table and key, for a file that is
    missing or no TOML, for unknown or missing keys, wrong types, numbers that are not finite, and no rule at all.
    """
    path = _rules_file(spec)
    try:
        document = parse_toml(path.read_bytes())
    except OSError as error:
        raise UsageError(f"rules {path} cannot be read ({error.strerror}); name a TOML file with rules.") from error
    except MalformedError as error:
        raise UsageError(f"{path}: {error}.") from error
    for name in document:
        if name not in RULES:
            raise UsageError(f"{path}: unknown table {name!r}; {did_you_mean(name, RULES)}.")
    if not document:
        raise UsageError(f"{path}: no rules in this file; write at least one of [{'], ['.join(RULES)}].")
    tables = {name: _Table(path, name, document[name]) for name in document}
    return RuleSettings(
        end=_end_rule(tables["end"]) if "end" in tables else None,
        uniform=_uniform_rule(tables["uniform"]) if "uniform" in tables else None,
        diversity=_diversity_rule(tables["diversity"]) if "diversity" in tables else None,
    )


def rules_of(plain: Mapping[str, Json]) -> RuleSettings:
    """The settings that ``dataclasses.asdict`` made plain."""
    end, uniform, diversity = (plain.get(name) for name in RULES)
    return RuleSettings(
        end=EndRule(**end) if end else None,
        uniform=UniformRule(**uniform) if uniform else None,
        diversity=DiversityRule(**diversity) if diversity else None,
    )


def names_a_path(spec: str) -> bool:
    """Whether rules are named by path (a separator or ``.toml``) and not as shipped ones."""
    return "/" in spec or "\\" in spec or spec.endswith(SUFFIX)


def _rules_file(spec: str) -> Path:
    if names_a_path(spec):
        path = Path(spec).expanduser()
        if not os.path.isfile(path):
            raise UsageError(f"rules {spec!r}: no such file (looked at {path.absolute()}).")
        return path
    known = {path.stem: path for path in fixture(SHIPPED).glob(f"*{SUFFIX}")}
    if spec not in known:
        raise UsageError(
            f"rules {spec!r} are neither shipped nor a path to a {SUFFIX} file; {did_you_mean(spec, known)}."
        )
    return known[spec]


class _Table:
    """One table of a rules file; every message names file and table."""

    def __init__(self, path: Path, name: str, values: Any) -> None:
        self.label = f"{path}: [{name}]"
        if not isinstance(values, dict):
            self.fail(f"is a table, got {values!r}")
        self.values: dict[str, Any] = values

    def fail(self, message: str) -> NoReturn:
        raise UsageError(f"{self.label}: {message}.")

    def require(self, *keys: str) -> None:
        """These keys and no other."""
        for key in self.values:
            if key not in keys:
                self.fail(f"unknown key {key!r}; {did_you_mean(key, keys)}")
        for key in keys:
            if key not in self.values:
                self.fail(f"key {key!r} is missing; it needs {', '.join(keys)}")

    def number(self, key: str) -> float:
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            self.fail(f"{key!r} is a finite number of nats, got {value!r}")
        return float(value)


def _end_rule(table: _Table) -> EndRule:
    table.require("score", "steps")
    steps = table.values["steps"]
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        table.fail(f"'steps' is a whole number of tokens, at least 2, got {steps!r}")
    return EndRule(score=table.number("score"), steps=steps)


def _uniform_rule(table: _Table) -> UniformRule:
    if not table.values or "" in table.values:
        table.fail('needs the texts of tokens with their scores, as " should" = -6.0; no text is empty')
    return UniformRule(scores={text: table.number(text) for text in table.values})


def _diversity_rule(table: _Table) -> DiversityRule:
    table.require("score")
    return DiversityRule(score=table.number("score"))
