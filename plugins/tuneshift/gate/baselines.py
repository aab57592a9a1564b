"""Baselines on disk: a slim run record per name, its checksum, and the looks that were taken at it. ``docs/gate.md``.

``STORAGE/NAME/baseline.json`` is written whole or not at all and holds what a comparison reads: no examples, figures or
resamples. ``looks.json`` beside it counts the decisions made against it, where it has a budget of looks.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from ..errors import RecordError, UsageError, did_you_mean
from ..files import KEPT, acquired_lock, project_folder, publish
from ..parse import MalformedError, parse_json
from ..plain import Json, digest, plain
from ..run_record import RunRecord, check_schema
from ..statistics.look_budget import claim_levels
from ..statistics.sequential import look_levels
from .compare import require_numbers
from .rates import Look, sharing

FORMAT = 1
"""Goes up when a field of baseline.json changes its meaning or goes away."""
FOLDER = Path(KEPT) / "baselines"
FILE, LOOKS_FILE, LOCK_FILE = "baseline.json", "looks.json", ".lock"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SPENDINGS = ("obrien-fleming", "pocock", "even")
ROUNDING = 1e-9
"""Of a look's rate: differences of sums that are the same on paper."""
WAIT = 60.0
"""Seconds to wait for another process that saves a baseline or takes a look."""

CLAIM_FIELDS = (
    "finding", "pair", "prompts", "group", "items", "measures", "direction", "unit", "sesoi", "n", "clusters", "effect",
    "interval", "level", "p", "standard_error", "freedom", "method", "verdict", "reason", "values", "evidence",
    "family", "family_size", "scores",
)  # fmt: skip
"""Of a claim, what a comparison reads and what says where its effect stood."""
RUN_FIELDS = ("started", "finished", "versions", "alpha", "response", "measures", "settings")
"""Of a run, what a comparison reads and when it was; no path of the machine that it ran on."""
DETAILS = ("decided_by", "judge", "annotator", "vocabulary", "word_vectors", "estimate")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many decisions may be made against a baseline, and how the error rate ``alpha`` is spent on them."""

    looks: int
    spending: str
    alpha: float


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A stored run: its name, when and where it was saved, its slim record, and its budget of looks if it has one."""

    name: str
    saved: str
    path: Path
    checksum: str
    record: RunRecord
    budget: Budget | None

    def described(self) -> dict[str, Json]:
        """What a run record says of the baseline that it was compared with."""
        tuned = {str(pair["name"]): pair["tuned"]["name"] for pair in self.record.pairs}
        return {"name": self.name, "saved": self.saved, "tuned": ", ".join(dict.fromkeys(tuned.values()))}


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """The baselines below a folder."""

    folder: Path

    def names(self) -> tuple[str, ...]:
        """Names of the baselines that are there."""
        return tuple(sorted(path.parent.name for path in self.folder.glob(f"*/{FILE}")))

    def load(self, name: str) -> Baseline:
        """A baseline, checked. Raises UsageError for one that is missing, damaged, foreign or of a future version, and
        for one that holds a value that is no number."""
        check_name(name)
        path = self.folder / name / FILE
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            raise UsageError(
                f"There is no baseline {name!r} in {self.folder}; {did_you_mean(name, self.names())}. "
                "--shift-save=NAME and `tuneshift bless RUN.json --as NAME` make one."
            ) from None
        except OSError as error:
            raise UsageError(f"Baseline {path} cannot be read: {error}. {_restore(name)}") from error
        return _read(text, path, name)

    def require_free(self, name: str, *, overwrite: bool, allow: str) -> None:
        """Raise UsageError for a name that is none, and for one that is taken where ``overwrite`` is not asked for;
        ``allow`` is the option that allows it."""
        check_name(name)
        if not overwrite and os.path.exists(self.folder / name / FILE):
            raise UsageError(
                f"Baseline {name!r} is already there ({self.folder / name / FILE}); {allow} replaces it. "
                "Nothing was saved."
            )

    def save(
        self,
        record: RunRecord,
        name: str,
        *,
        overwrite: bool = False,
        allow: str = "overwrite=True",
        budget: Budget | None = None,
    ) -> Path:
        """Store a run as a baseline; its path. The one of that name stays whole until the new one is.

        ``overwrite``: whether a baseline of that name is replaced; ``allow`` is how a message says so.

        Raises UsageError as `require_free`, for a budget that is none and for a record whose values are not all
        numbers; RecordError where it cannot be written.
        """
        if not record.claims:
            raise UsageError(f"The record holds no claims, so there is nothing that baseline {name!r} could keep.")
        require_numbers(record, f"The record to be saved as {name!r}")
        if budget is not None:
            _check_budget(budget, sharing(record))
        content = {"record": slim(record), "budget": None if budget is None else vars(budget)}
        saved = str(record.run.get("finished") or record.run.get("started"))
        document = {"format": FORMAT, "name": name, "saved": saved, "sha256": digest(content), **content}
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        path = self.folder / name / FILE
        check_name(name)
        with self._locked():
            self.require_free(name, overwrite=overwrite, allow=allow)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                publish(path, (text + "\n").encode())
            except OSError as error:
                raise RecordError(f"Baseline {path} cannot be written: {error.strerror or error}.") from error
        return path

    def next_look(self, baseline: Baseline, alpha: float, shared_by: int) -> Look:
        """The next look at a baseline, which `take` spends once it has been decided at and the record is written.

        Without a budget every look is at ``alpha``. ``shared_by`` claims share what it may spend. Raises UsageError
        where the budget is spent.
        """
        if baseline.budget is None:
            return Look(alpha=alpha, shown=alpha)
        self.require_a_look(baseline)
        return _nth_look(baseline.budget, len(self._taken(baseline)) + 1, shared_by)

    def known_look(
        self, baseline: Baseline, claims: Sequence[Mapping[str, Json]], shared_by: int, alpha: float
    ) -> Look:
        """The look that these claims took at a baseline, else the next one. Claims are told apart by their values, so
        that the same run costs one look however often it is compared. Raises UsageError as `next_look`."""
        taken = self._taken(baseline)
        if baseline.budget is None or claims_digest(claims) not in taken:
            return self.next_look(baseline, alpha, shared_by)
        return _nth_look(baseline.budget, taken.index(claims_digest(claims)) + 1, shared_by)

    def counts_as(self, baseline: Baseline, look: Look, claims: Sequence[Mapping[str, Json]], shared_by: int) -> Look:
        """The look that claims which were decided at ``look`` count as: an earlier one of the same values at the same
        rate, whose number they keep, so that the same run compared again spends none."""
        taken = self._taken(baseline)
        if baseline.budget is None or not claims or claims_digest(claims) not in taken:
            return look
        known = _nth_look(baseline.budget, taken.index(claims_digest(claims)) + 1, shared_by)
        return known if math.isclose(known.shown, look.shown, rel_tol=ROUNDING) else look

    def take(self, baseline: Baseline, look: Look, claims: Sequence[Mapping[str, Json]], shared_by: int) -> None:
        """Spend a look: write down the claims that were decided at it. Without claims none is spent, nor one that the
        same values took before.

        Raises RecordError where another run took that look meanwhile and the next one may spend less than this run was
        decided at, or none is left: nothing is written then.
        """
        if baseline.budget is None or look.number is None or not claims:
            return
        key = claims_digest(claims)
        with self._locked():
            taken = self._taken(baseline)
            if look.number <= len(taken) and taken[look.number - 1] == key:
                return
            number = len(taken) + 1
            left = number <= baseline.budget.looks
            spends = _nth_look(baseline.budget, number, shared_by).shown if left else 0.0
            if spends < look.shown * (1 - ROUNDING):
                raise RecordError(
                    f"Another run took look {look.number} at baseline {baseline.name!r} while this one was under way, "
                    "so that its comparisons do not count. Compare its record again: `tuneshift gate RUN.json "
                    f"--baseline {baseline.name}`."
                )
            _write_looks(baseline, [*taken, key])

    def require_a_look(self, baseline: Baseline) -> None:
        """Raise UsageError where a baseline's budget is spent: asked before anything is measured."""
        if baseline.budget is not None and len(self._taken(baseline)) >= baseline.budget.looks:
            raise spent_budget(baseline)

    def _taken(self, baseline: Baseline) -> list[str]:
        """Digests of the runs that were compared, in order. Looks at a baseline that has been replaced do not count."""
        path = baseline.path.with_name(LOOKS_FILE)
        try:
            data = parse_json(path.read_bytes())
            kept = {"baseline": data["baseline"], "taken": data["taken"]}
            if data["sha256"] != digest(kept):
                raise ValueError("its checksum does not fit its contents")
            if data["baseline"] != baseline.checksum:
                return []
            taken = list(data["taken"])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path}, which counts the looks at baseline {baseline.name!r}, is damaged ({error!r}). Restore it "
                "from version control: without it no level can be given."
            ) from error
        return taken

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.folder / LOCK_FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            ignored = self.folder / ".gitignore"
            if not ignored.exists():
                # The folder is made to be committed; its lock is not.
                publish(ignored, f"{LOCK_FILE}\n".encode())
            lock = acquired_lock(path, WAIT)
        except Timeout as error:
            raise RecordError(
                f"Another process has held {path} for {WAIT:g} s. Wait for it to end, or end it, and try again."
            ) from error
        except OSError as error:
            raise RecordError(f"The storage {self.folder} cannot be written: {error.strerror or error}.") from error
        try:
            yield
        finally:
            lock.release()


def storage_folder(named: str | os.PathLike[str] | None, here: Path) -> Path:
    """Where baselines lie: the folder named, else ``$TUNESHIFT_STORAGE``, else ``FOLDER`` of the project that ``here``
    is in."""
    asked = named or os.environ.get("TUNESHIFT_STORAGE")
    return Path(asked).expanduser() if asked else project_folder(here) / FOLDER


def check_name(name: str) -> None:
    """Raise UsageError for a name that cannot be a folder's on every system."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a baseline: letters, digits, '.', '_' and '-' are accepted, the first a letter or "
            "digit, 100 at most."
        )


def slim(record: RunRecord) -> dict[str, Json]:
    """What a comparison reads of a run record, as plain JSON."""
    claims = [
        {
            **{name: claim.get(name) for name in CLAIM_FIELDS},
            "details": {name: claim["details"][name] for name in DETAILS if name in claim["details"]},
        }
        for claim in record.claims
    ]
    run = {name: record.run.get(name) for name in RUN_FIELDS}
    result: dict[str, Json] = plain({"schema": record.schema, "run": run, "pairs": record.pairs, "claims": claims})
    return result


def _write_looks(baseline: Baseline, taken: Sequence[str]) -> None:
    path = baseline.path.with_name(LOOKS_FILE)
    kept = {"baseline": baseline.checksum, "taken": list(taken)}
    text = json.dumps({**kept, "sha256": digest(kept)}, indent=1) + "\n"
    try:
        publish(path, text.encode())
    except OSError as error:
        raise RecordError(f"The look cannot be written to {path}: {error.strerror or error}.") from error


def _nth_look(budget: Budget, number: int, shared_by: int) -> Look:
    levels = claim_levels(look_levels(budget.alpha, budget.looks, budget.spending), shared_by)  # type: ignore[arg-type]
    return Look(alpha=budget.alpha, shown=levels[number - 1] * shared_by, number=number, looks=budget.looks)


def claims_digest(claims: Sequence[Mapping[str, Json]]) -> str:
    """SHA-256 of what a run found: its claims' identity, effects and per-item values, in any order."""
    fields = ("pair", "finding", "prompts", "group", "effect", "values")
    return digest(sorted(([plain(claim[name]) for name in fields] for claim in claims), key=lambda row: row[:4]))


def spent_budget(baseline: Baseline) -> UsageError:
    """The error of a baseline at which all looks were taken."""
    budget = baseline.budget
    assert budget is not None
    return UsageError(
        f"{'The one look' if budget.looks == 1 else f'All {budget.looks} looks'} at baseline {baseline.name!r} "
        f"{'is' if budget.looks == 1 else 'are'} taken: a further decision would exceed its error "
        f"rate {budget.alpha:g}. Bless a run as the next baseline with a budget of its own: `tuneshift bless RUN.json "
        f"--as {baseline.name} --force --looks {budget.looks}`. A run that took a look may be compared again: "
        "`tuneshift gate RUN.json`."
    )


def _check_budget(budget: Budget, shared_by: int) -> None:
    if not 1 <= budget.looks <= 10_000:
        raise UsageError(f"--looks is {budget.looks}; a budget is of 1 to 10000 looks.")
    if budget.spending not in SPENDINGS:
        raise UsageError(f"--spending {budget.spending!r}: {did_you_mean(budget.spending, SPENDINGS)}.")
    if not 0 < budget.alpha < 0.5:
        raise UsageError(f"The budget's error rate is {budget.alpha}; it lies between 0 and 0.5, as 0.05.")
    try:
        _nth_look(budget, 1, shared_by)
    except ValueError as error:
        raise UsageError(f"--looks {budget.looks} --spending {budget.spending}: {error}.") from error


def _read(text: bytes, path: Path, name: str) -> Baseline:
    """A baseline from its file's text, or the UsageError that says why it is none."""
    try:
        data: Any = parse_json(text, constant=float)
    except MalformedError as error:
        raise UsageError(f"Baseline {path} is damaged: {error}. {_restore(name)}") from error
    if not isinstance(data, dict) or not isinstance(data.get("format"), int) or "record" not in data:
        raise UsageError(f"{path} is not a baseline of tuneshift: it has no `format` and `record`. {_restore(name)}")
    if data["format"] != FORMAT:
        raise UsageError(
            f"Baseline {path} has format {data['format']}, this tuneshift reads {FORMAT}. Use the version that saved "
            "it or a later one, or save a new baseline."
        )
    try:
        whole = data.get("sha256") == digest({"record": data["record"], "budget": data.get("budget")})
    except ValueError:  # NaN has no canonical form, and nothing that was saved here held one
        whole = False
    record = _record(data["record"], path)
    require_numbers(record, f"Baseline {path}")
    if not whole or not isinstance(data.get("saved"), str):
        raise UsageError(f"Baseline {path} is damaged: its checksum does not fit its contents. {_restore(name)}")
    budget = Budget(**data["budget"]) if data.get("budget") else None
    return Baseline(
        name=name, saved=data["saved"], path=path, checksum=data["sha256"], record=record, budget=budget
    )  # fmt: skip


def _record(data: Any, path: Path) -> RunRecord:
    try:
        check_schema(data, path)
        for claim in data["claims"]:
            for arm in claim["values"].values():
                if len(arm["ids"]) != len(arm["x"]):
                    raise ValueError(f"{claim['finding']} has {len(arm['ids'])} ids and {len(arm['x'])} values")
    except RecordError as error:
        raise UsageError(f"Baseline {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"Baseline {path} is damaged ({error!r}). {_restore(path.parent.name)}") from error
    return RunRecord(schema=data["schema"], run=data["run"], pairs=data["pairs"], claims=data["claims"])


def _restore(name: str) -> str:
    return f"Restore it from version control, or save it again: `tuneshift bless RUN.json --as {name} --force`."
