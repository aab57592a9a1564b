"""What a run found, for scripts and notebooks: the run record with its rows ready for a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from ..errors import UsageError, counted, require_kind
from ..plain import Json
from ..run_record import RunRecord, read_record, write_record

SHAPES = {"reproduced": "✔", "contradicted": "✘", "inconclusive": "?", "not_applicable": "–"}
SHOWN = 200
"""Rows that a notebook shows of a long list."""


class Rows(list[dict[str, Json]]):
    """A list of plain dicts, which a notebook shows as a table."""

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame: a column for each scalar, ``interval`` as its two ends.

        Nested values (per-item values, figures, sensitivity ...) are left out; the rows themselves have them. Raises
        UsageError where pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise UsageError(
                "to_pandas() needs the package pandas, which is not installed: pip install pandas. Without it the rows "
                "are a list of dicts as they stand."
            ) from error
        return pandas.DataFrame(_flat(self))

    def _repr_html_(self) -> str:
        more = f"<p>{counted(len(self) - SHOWN, 'more row')}.</p>" if len(self) > SHOWN else ""
        return _table(_flat(self[:SHOWN])) + more


@dataclass(frozen=True, kw_only=True, repr=False)
class Run(RunRecord):
    """What a run found: the run record (``docs/run-record.md`` has the fields) as rows.

    ``claims``: one row a finding, pair, prompt set and group, with verdict, effect, interval and all that the report
    shows. ``run``: how it was measured. ``pairs``: the checkpoints with their fingerprints. ``examples``: prompts with
    token strips. It goes wherever a record does: `write_report`, `compare_runs`, `Baselines.save`.
    """

    claims: Rows

    def __post_init__(self) -> None:
        object.__setattr__(self, "claims", Rows(self.claims))

    @property
    def values(self) -> Rows:
        """One row for each item of each arm of each claim: ``finding``, ``pair``, ``prompts``, ``group``, ``arm``
        (``base``, ``tuned`` ...), ``item`` (the id of a prompt, layer, head or verb) and ``value``."""
        names = ("finding", "pair", "prompts", "group")
        return Rows(
            {**{name: claim[name] for name in names}, "arm": label, "item": item, "value": value}
            for claim in self.claims
            for label, arm in claim["values"].items()
            for item, value in zip(arm["ids"], arm["x"], strict=True)
        )

    @property
    def failed(self) -> Rows:
        """One row for each claim that could not be made: ``finding``, ``pair``, ``prompts``, ``group``, ``message``."""
        return Rows(dict(error) for error in self.errors)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record as JSON, for `load_run` and the ``tuneshift`` commands; its path. Raises RecordError."""
        return write_record(self, Path(path))

    def __repr__(self) -> str:
        return f"Run({self._summary()})"

    def _summary(self) -> str:
        counts = Counter(claim["verdict"] for claim in self.claims)
        parts = [f"{counts[verdict]} {verdict.replace('_', ' ')}" for verdict in SHAPES if counts[verdict]]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        pairs = ", ".join(p["name"] for p in self.pairs)
        return f"{counted(len(self.claims), 'claim')} on {pairs}: {', '.join(parts) or 'none'}"

    def _repr_html_(self) -> str:
        failed = f"<p>Failed:</p>{self.failed._repr_html_()}" if self.failed else ""
        return f"<p>{_escaped(self._summary())}</p>{_table([_line(c) for c in self.claims])}{failed}"


def load_run(path: str | os.PathLike[str]) -> Run:
    """The run whose record lies at ``path``: a run.json, or the folder that holds one.

    Raises RecordError for a missing, foreign, damaged or newer file.
    """
    require_kind("path", path, (str, os.PathLike), "a run.json or the folder that holds one")
    file = Path(path)
    return as_run(read_record(file / "run.json" if file.is_dir() else file))


def as_run(record: RunRecord) -> Run:
    """A record as a run."""
    return Run(**{field.name: getattr(record, field.name) for field in fields(RunRecord)})


def _flat(rows: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """The rows without what is nested in any of them, ``interval`` as its two ends."""
    nested = {name for row in rows for name, value in row.items() if isinstance(value, (dict, list))}
    flat = []
    for row in rows:
        ends = zip(("interval_low", "interval_high"), row.get("interval") or (), strict=False)
        flat.append({**{name: value for name, value in row.items() if name not in nested}, **dict(ends)})
    return flat


def _line(claim: Mapping[str, Json]) -> dict[str, Json]:
    """The columns of a claim that a notebook shows."""
    verdict = claim["verdict"]
    low, high = claim["interval"]
    interval = "" if low is None else f"[{low:+.3g}, {high:+.3g}]"
    return {
        **{name: claim[name] for name in ("finding", "pair", "prompts", "group", "n", "effect")},
        "interval": interval,
        "unit": claim["unit"],
        "verdict": f"{SHAPES.get(verdict, '')} {verdict.replace('_', ' ')}",
    }


def _table(rows: Sequence[Mapping[str, Json]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{_escaped(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(row.get(name))}</td>' for name in names)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Json) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else _escaped(str(value))


def _escaped(text: str) -> str:
    return escape(text.encode("utf-8", "replace").decode("utf-8"), quote=True)
