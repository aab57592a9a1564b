"""Baselines on disk: a slim run record per name, its checksum, and the looks that were taken at it. ``docs/gate.md``.

``STORAGE/NAME/baseline.json`` is written whole or not at all and holds what a comparison reads: no examples, figures or
resamples. ``looks.json`` beside it counts the decisions made against it, where it has a budget of looks.
"""

from __future__ import annotations

import contextlib
import json
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
from ..statistics.sequential import look_levels
from .compare import require_numbers

FORMAT = 1
"""Goes up when a field of baseline.json changes its meaning or goes away."""
FOLDER = Path(KEPT) / "baselines"
RESERVED = "reserved"
"""Stands among the looks for a run that has not said yet what it compared."""
FILE, LOOKS_FILE, LOCK_FILE = "baseline.json", "looks.json", ".lock"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SPENDINGS = ("obrien-fleming", "pocock", "even")
WAIT = 60.0
"""Seconds to wait for another process that saves a baseline or takes a look."""

CLAIM_FIELDS = (
    "finding", "pair", "prompts", "group", "items", "measures", "direction", "unit", "sesoi", "n", "clusters", "effect",
    "interval", "level", "p", "standard_error", "method", "verdict", "reason", "values", "evidence", "family",
    "family_size", "scores",
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
class Look:
    """One decision against a baseline: ``alpha`` is its error rate, ``number`` of ``looks`` where there is a budget."""

    alpha: float
    number: int | None = None
    looks: int | None = None


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
            _check_budget(budget)
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

    def look(self, baseline: Baseline, claims: Sequence[Mapping[str, Json]], alpha: float) -> Look:
        """The look that these claims take at a baseline, spent if they have not taken it before.

        Without a budget every look is at ``alpha``. Claims are told apart by their values, so that the same run costs
        one look however often it is compared. Raises UsageError where the budget is spent.
        """
        budget = baseline.budget
        if budget is None:
            return Look(alpha=alpha)
        key = claims_digest(claims)
        with self._locked():
            taken = self._taken(baseline)
            if key not in taken:
                if len(taken) >= budget.looks:
                    raise spent_budget(baseline)
                taken.append(key)
                _write_looks(baseline, taken)
        return _nth_look(budget, taken.index(key) + 1)

    def reserve(self, baseline: Baseline, alpha: float) -> Look:
        """The next look at a baseline, spent before the claims that take it are known: tests decide at it one by one.

        `settle` says afterwards what took it. Raises UsageError where the budget is spent.
        """
        if baseline.budget is None:
            return Look(alpha=alpha)
        with self._locked():
            taken = self._taken(baseline)
            if len(taken) >= baseline.budget.looks:
                raise spent_budget(baseline)
            _write_looks(baseline, [*taken, RESERVED])
        return _nth_look(baseline.budget, len(taken) + 1)

    def settle(self, baseline: Baseline, look: Look, claims: Sequence[Mapping[str, Json]]) -> Look:
        """Write down the claims that took a reserved look; the look that they count as.

        Without claims the look is given back. So is one of values that had taken another at the same level, whose
        number they keep: the same run compared again spends none. It stays spent where a later look was taken since.
        """
        budget = baseline.budget
        if budget is None or look.number is None:
            return look
        with self._locked():
            taken = self._taken(baseline)
            if len(taken) < look.number:  # the baseline was replaced, and its looks count anew
                return look
            key = claims_digest(claims) if claims else None
            before = taken[: look.number - 1]
            same = _nth_look(budget, before.index(key) + 1) if key in before else None
            counts_as = same if same is not None and same.alpha == look.alpha else look
            if key is not None:
                taken[look.number - 1] = key
            if (key is None or counts_as is same) and len(taken) == look.number:
                taken.pop()
            _write_looks(baseline, taken)
        return counts_as

    def require_a_look(self, baseline: Baseline) -> None:
        """Raise UsageError where a baseline's budget is spent: asked before anything is measured."""
        if baseline.budget is not None and len(self._taken(baseline)) >= baseline.budget.looks:
            raise spent_budget(baseline)

    def _taken(self, baseline: Baseline) -> list[str]:
        """Digests of the runs that were compared, in order. Looks at a baseline that has been replaced do not count."""
        path = baseline.path.with_name(LOOKS_FILE)
        try:
            data = parse_json(path.read_bytes())
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
    text = json.dumps({"baseline": baseline.checksum, "taken": list(taken)}, indent=1) + "\n"
    try:
        publish(path, text.encode())
    except OSError as error:
        raise RecordError(f"The look cannot be written to {path}: {error.strerror or error}.") from error


def _nth_look(budget: Budget, number: int) -> Look:
    level = look_levels(budget.alpha, budget.looks, budget.spending)[number - 1]  # type: ignore[arg-type]
    return Look(alpha=float(level), number=number, looks=budget.looks)


def claims_digest(claims: Sequence[Mapping[str, Json]]) -> str:
    """SHA-256 of what a run found: its claims' identity, effects and per-item values, in any order."""
    fields = ("pair", "finding", "prompts", "group", "effect", "values")
    return digest(sorted(([plain(claim[name]) for name in fields] for claim in claims), key=lambda row: row[:4]))


def spent_budget(baseline: Baseline) -> UsageError:
    """The error of a baseline at which all looks were taken."""
    budget = baseline.budget
    assert budget is not None
    return UsageError(
        f"All {budget.looks} looks at baseline {baseline.name!r} are taken: a further decision would exceed its error "
        f"rate {budget.alpha:g}. Bless a run as the next baseline with a budget of its own: `tuneshift bless RUN.json "
        f"--as {baseline.name} --force --looks {budget.looks}`. A run that took a look may be compared again: "
        "`tuneshift gate RUN.json`."
    )


def _check_budget(budget: Budget) -> None:
    if not 1 <= budget.looks <= 10_000:
        raise UsageError(f"--looks is {budget.looks}; a budget is of 1 to 10000 looks.")
    if budget.spending not in SPENDINGS:
        raise UsageError(f"--spending {budget.spending!r}: {did_you_mean(budget.spending, SPENDINGS)}.")
    if not 0 < budget.alpha < 1:
        raise UsageError(f"The budget's error rate is {budget.alpha}; it lies between 0 and 1, as 0.05.")


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
