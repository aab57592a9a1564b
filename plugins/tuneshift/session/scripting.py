"""Runs from a script: what `pytest suites` does, without pytest."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast, get_args

from ..backends.spec import parse_backend
from ..checkpoint_specs import DTYPES
from ..checkpoints.refs import ModelRef
from ..claims.catalogue import finding_tests, findings, marked_finding
from ..claims.claim import Claim
from ..claims.decisions import with_run_wide
from ..claims.finding import Finding
from ..claims.view import Quantity
from ..engine.progress import bars_on
from ..engine.settings import BaseFormat, ResponseMode, Settings, YesOrNo
from ..errors import TuneshiftError, UsageError, counted, did_you_mean, require_kind
from ..files import cache_folder
from ..gate.baselines import Baseline
from ..gate.compare import check_comparable, compare
from ..pairs import FEWEST_ATTRIBUTED, ModelPair, asked, load_pairs, pair_of, resolve_pairs
from ..plain import NOTHING, Json, plain
from ..run_record import RunRecord, make_record
from ..store.evidence_file import SUFFIX
from ..words.spec import words_from_option
from .checks import check_run
from .console import run_fields
from .describe import describe_pairs
from .gating import selected
from .options import default_store
from .requests import Gating, Options, Target
from .results import Run, as_run
from .run import RunSession

Checkpoint = str | os.PathLike[str] | ModelRef
Decides = Callable[[Claim], None]
Asked = str | tuple[Finding, Quantity] | Decides
"""A finding to be tested: an id or shell pattern of ids, a finding of one's own with its quantity, or a test function
with ``@pytest.mark.finding``."""


class RunSettings(TypedDict, total=False):
    """How a run measures and decides; each is the option ``--shift-NAME`` of `pytest suites`, with its default."""

    response: Literal["own", "reference", "tuned"]
    attribute_tokens: int
    attribute_template: Literal["no", "yes"]
    max_new_tokens: int
    vocabulary: int | str | os.PathLike[str]
    word_vectors: str | os.PathLike[str]
    annotator: str
    rules: str
    base_format: Literal["generation", "both", "none"]
    plain_format: str
    judge: str | Sequence[str]
    backend: str
    dtype: Literal["float32", "bfloat16", "float16", "float64"]
    device: str
    alpha: float
    noise_floor: bool


KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("max_new_tokens", "attribute_tokens"), ((int,), "a number of tokens")),
    "vocabulary": ((int, str, os.PathLike), "a number of words or a file"),
    "word_vectors": ((str, os.PathLike), "the name of a word space or a file"),
    "judge": ((str, list, tuple), "the name of a judge or a list of names"),
    "alpha": ((int, float), "an error rate, between 0 and 1 (0.05)"),
    "noise_floor": ((bool,), "True or False"),
    **dict.fromkeys(("annotator", "rules", "plain_format", "backend", "device"), ((str,), "a text")),
}
"""Settings that are checked by their kind, and what is accepted."""


def run(
    base: Checkpoint | None = None,
    tuned: Checkpoint | None = None,
    *,
    pairs: str | os.PathLike[str] | ModelPair | Sequence[ModelPair] | None = None,
    findings: Asked | Sequence[Asked] | None = None,
    prompts: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    store: str | os.PathLike[str] | None = None,
    **settings: Unpack[RunSettings],
) -> Run:
    """Measure and decide findings on pairs of checkpoints: what `pytest suites` does, without pytest.

    ``base`` and ``tuned`` make one pair: folders, hub ids, ``embedded:FAMILY/NAME`` or ModelRefs. ``pairs`` are
    several: a pair file, a ModelPair or a list of them. Without any of these the pairs of pyproject.toml in this
    folder, else the embedded one. ``findings``: ids or shell patterns (``wu2023.*``), ``(finding, quantity)`` of your
    own, or test functions with ``@pytest.mark.finding``; None takes all that are shipped. ``prompts`` replaces the
    pairs' prompt sets: JSONL files or names of shipped sets. ``store``: folder of the evidence store (default: as for
    pytest). ``settings``: ``response``, ``attribute_tokens``, ``attribute_template``, ``max_new_tokens``,
    ``vocabulary``, ``word_vectors``, ``annotator``, ``rules``, ``base_format``, ``plain_format``, ``judge``,
    ``backend``, ``dtype``, ``device``, ``alpha``, ``noise_floor``, each as the option ``--shift-...``.
    several: a pair file, an evidence file, a ModelPair or a list of them. Without any of these the pairs of
    pyproject.toml in this folder, else the embedded one. ``findings``: ids or shell patterns (``wu2023.*``),
    ``(finding, quantity)`` of your own, or test functions with ``@pytest.mark.finding``; None takes all that are
    shipped. ``prompts`` replaces the pairs' prompt sets: JSONL files or names of shipped sets. ``store``: folder of the
    evidence store (default: as for pytest). ``settings``: ``response``, ``max_new_tokens``, ``vocabulary``,
    ``word_vectors``, ``annotator``, ``rules``, ``base_format``, ``plain_format``, ``judge``, ``backend``, ``dtype``,
    ``device``, ``alpha``, ``noise_floor``, each as the option ``--shift-...``.

    A claim that cannot be made does not end the run: it is in ``Run.failed``, and a warning names the first. Nothing is
    written but evidence; `Run.save` and `write_report` write the rest. Progress goes to stderr: bars on a terminal, a
    line a minute elsewhere.

    Raises UsageError (PairError, PromptError ...) for what is wrong before anything is measured, and TuneshiftError
    where no claim can be made at all.
    """
    started, clock = time.time(), time.monotonic()
    tests = _tests(findings)
    session = RunSession(
        options=_options(store, settings), known_findings=_shipped, given=_pairs(base, tuned, pairs, prompts)
    )
    check_run(session)
    wanted = [(finding, target) for finding in tests for target in session.targets_of(finding)]
    session.reach(wanted)
    session.engine.bars = bars_on(sys.stderr)
    session.measure(wanted)
    claims, failed = _claims(session, tests, wanted)
    if failed:
        message = (
            f"{len(failed)} of {counted(len(wanted), 'claim')} could not be made; the first: {failed[0]['message']}"
        )
        if not claims:
            raise TuneshiftError(message)
        warnings.warn(message, stacklevel=2)
    decided = with_run_wide(claims)
    fields = {
        **run_fields(session, decided, started, time.monotonic() - clock),
        "command": _call(base, tuned, pairs=pairs, findings=findings, prompts=prompts, store=store, **settings),
        "exit_code": 0,
        "selection": selected(session, wanted),
        "pairs_left_out": [],
    }
    return as_run(make_record(fields, describe_pairs(session), decided, failed))


def compare_runs(
    new: Run, old: Run | Baseline, *, margins: Mapping[str, float] = NOTHING, alpha: float = 0.05, name: str = "old"
) -> Run:
    """The new run with each claim's ``comparison`` with the old one: regressed, held, worse, improved, inconclusive,
    missing or not compared (docs/gate.md).

    ``margins``: finding id -> how much worse is still held, in the finding's unit; a finding without one has its
    smallest effect of interest. ``alpha`` is the error rate that all comparisons share. ``old`` may be a baseline
    (`Baselines.load`); no look of its budget is taken, so for a decision that has one use ``pytest --shift-compare``.
    ``name`` is what messages call a run.

    Raises UsageError for runs that cannot be compared, naming what differs, and for margins that are none.
    """
    require_kind("new", new, RunRecord, "a run, as run() and load_run() return it")
    require_kind("old", old, (RunRecord, Baseline), "a run or a baseline, as load_run() and Baselines.load return them")
    require_kind("margins", margins, Mapping, "a margin by finding id, as {'hewitt2024.tuned_follows': 0.05}")
    require_kind("alpha", alpha, (int, float), "an error rate, as 0.05")
    baseline, called = (old.record, old.name) if isinstance(old, Baseline) else (old, name)
    check_comparable(new.run, new.pairs, baseline, called)
    claims = compare(new.claims, new.pairs, baseline, name=called, margins=margins, alpha=alpha)
    against = {"name": called, "saved": baseline.run.get("finished"), "alpha": alpha}
    return as_run(make_record({**new.run, "baseline": against}, new.pairs, [_with_examples(new, c) for c in claims]))


def _with_examples(run: Run, claim: Mapping[str, Json]) -> dict[str, Json]:
    """A claim of a record with its examples back, which `make_record` keeps beside the claims."""
    place = {"finding": "finding", "pair": "pair", "prompt_set": "prompts", "group": "group"}
    own = [e for e in run.examples if all(e[there] == claim[here] for there, here in place.items())]
    return {**claim, "examples": [{k: v for k, v in e.items() if k != "finding"} for e in own]}


def _tests(asked_for: Asked | Sequence[Asked] | None) -> dict[Finding, Decides]:
    """The findings to be tested, each with what decides it, in the order asked."""
    shipped = finding_tests()
    if asked_for is None:
        return dict(shipped)
    one = isinstance(asked_for, str) or callable(asked_for) or _is_own(asked_for)
    if not one:
        require_kind(
            "findings", asked_for, Iterable, "an id or pattern, (Finding, quantity), a test or a list of these"
        )
    chosen: dict[Finding, Decides] = {}
    for wanted in [asked_for] if one else asked_for:  # type: ignore[union-attr]  # one of its items, or many
        if isinstance(wanted, str):
            found = {f: test for f, test in shipped.items() if fnmatchcase(f.id, wanted)}
            if not found:
                known = [f.id for f in shipped]
                raise UsageError(
                    f"findings={wanted!r}: no shipped finding is called so; {did_you_mean(wanted, known)}."
                )
            chosen |= found
        elif _is_own(wanted):
            finding, quantity = cast("tuple[Finding, Quantity]", wanted)
            chosen[finding] = _deciding(quantity)
        elif (marked := marked_finding(wanted)) is not None:
            chosen[marked] = cast(Decides, wanted)
        else:
            raise UsageError(
                f"findings={wanted!r}: an id or pattern, a pair (Finding, quantity), or a test function with "
                "@pytest.mark.finding is wanted."
            )
    if not chosen:
        raise UsageError("findings is empty; leave it out for all that are shipped.")
    return chosen


def _is_own(wanted: Any) -> bool:
    return isinstance(wanted, tuple) and len(wanted) == 2 and isinstance(wanted[0], Finding) and callable(wanted[1])


def _deciding(quantity: Quantity) -> Decides:
    def test(claim: Claim) -> None:
        claim.decide(quantity)

    return test


def _shipped() -> tuple[Finding, ...]:
    return findings()


def _pairs(
    base: Checkpoint | None,
    tuned: Checkpoint | None,
    pairs: str | os.PathLike[str] | ModelPair | Sequence[ModelPair] | None,
    prompts: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None,
) -> tuple[ModelPair, ...]:
    if pairs is not None and (base is not None or tuned is not None):
        raise UsageError("pairs and base, tuned exclude each other: they name pairs in two ways.")
    if (base is None) != (tuned is None):
        given, missing = ("base", "tuned") if tuned is None else ("tuned", "base")
        raise UsageError(f"{given} is given without {missing}; a pair needs both.")
    for name, checkpoint in (("base", base), ("tuned", tuned)):
        if checkpoint is not None:
            require_kind(name, checkpoint, (str, os.PathLike, ModelRef), "a folder, a hub id or a ModelRef")
    found: tuple[ModelPair, ...]
    if base is not None and tuned is not None:
        found = (pair_of(_written(base), _written(tuned)),)
    elif pairs is None:
        found = resolve_pairs(base=None, tuned=(), pairs_file=None, names=(), prompts=(), here=Path.cwd())
    elif isinstance(pairs, ModelPair):
        found = (pairs,)
    elif isinstance(pairs, (str, os.PathLike)) and os.fspath(pairs).endswith(SUFFIX):
        found = resolve_pairs(
            base=None, tuned=(), pairs_file=None, names=(), prompts=(), here=Path.cwd(), evidence=[Path(pairs)]
        )
    elif isinstance(pairs, (str, os.PathLike)):
        found = tuple(load_pairs(pairs).values())
    else:
        found = tuple(pairs) if isinstance(pairs, Iterable) else ()
    if not found or not all(isinstance(pair, ModelPair) for pair in found):
        raise UsageError(f"pairs={pairs!r}: a pair file, an evidence file, a ModelPair or a list of them is wanted.")
    names = [pair.name for pair in found]
    if len(set(names)) < len(names):
        raise UsageError(f"pairs have the names {', '.join(names)}; each needs one of its own.")
    if prompts is None:
        return found
    sets = [prompts] if isinstance(prompts, (str, os.PathLike)) else prompts
    require_kind("prompts", sets, Iterable, "a JSONL file, the name of a shipped set, or a list of these")
    for one in sets:
        require_kind("prompts", one, (str, os.PathLike), "a JSONL file, the name of a shipped set, or a list of these")
    if not sets:
        raise UsageError("prompts is empty; leave it out for the pairs' own sets.")
    return asked(found, [os.fspath(one) for one in sets], "prompts")


def _written(checkpoint: Checkpoint) -> str | ModelRef:
    return checkpoint if isinstance(checkpoint, ModelRef) else os.fspath(checkpoint)


def _options(store: str | os.PathLike[str] | None, settings: RunSettings) -> Options:
    """The settings as a run takes them. Raises UsageError for one that is unknown or no such value."""
    for name in settings:
        if name not in RunSettings.__annotations__:
            raise UsageError(f"run() has no setting {name!r}; {did_you_mean(name, RunSettings.__annotations__)}.")
    if store is not None:
        require_kind("store", store, (str, os.PathLike), "a folder")
    for name, (kinds, accepted) in KINDS.items():
        if settings.get(name) is not None:
            require_kind(name, settings.get(name), kinds, accepted)
    alpha, longest = settings.get("alpha", 0.05), settings.get("max_new_tokens")
    if not 0 < alpha < 1:
        raise UsageError(f"alpha is {alpha}; it is an error rate, between 0 and 1 (0.05).")
    if longest is not None and longest < 1:
        raise UsageError(f"max_new_tokens is {longest}; a response needs at least 1.")
    tokens = settings.get("attribute_tokens")
    if tokens is not None and tokens < FEWEST_ATTRIBUTED:
        raise UsageError(
            f"attribute_tokens is {tokens}; at least {FEWEST_ATTRIBUTED} are wanted, one for each fifth of a response."
        )
    judges = settings.get("judge", ())
    for judge in [judges] if isinstance(judges, str) else judges:
        require_kind("judge", judge, str, "the name of a judge or a list of names")
    backend, default = settings.get("backend"), Settings()
    return Options(
        base=None,
        tuned=(),
        pairs_file=None,
        pair_names=(),
        prompts=(),
        store=default_store() if store is None else Path(store).expanduser(),
        settings=Settings(
            response=cast(ResponseMode, _one_of(settings, "response", get_args(ResponseMode), default.response)),
            attribute_tokens=tokens,
            attribute_template=cast(
                YesOrNo, _one_of(settings, "attribute_template", get_args(YesOrNo), default.attribute_template)
            ),
            max_new_tokens=longest,
            vocabulary=_words(settings, "vocabulary"),
            word_vectors=_words(settings, "word_vectors"),
            annotator=settings.get("annotator", default.annotator),
            rules=settings.get("rules", default.rules),
            base_format=cast(BaseFormat, _one_of(settings, "base_format", get_args(BaseFormat), default.base_format)),
            plain_format=settings.get("plain_format"),
            judges=(judges,) if isinstance(judges, str) else tuple(judges),
            backend=None if backend is None else parse_backend(backend),
            dtype=_one_of(settings, "dtype", DTYPES, default.dtype),
            device=settings.get("device", default.device),
            memo=cache_folder() / "fingerprints.json",
        ),
        alpha=alpha,
        here=Path.cwd(),
        noise_floor=settings.get("noise_floor", False),
        gating=Gating(storage=Path.cwd()),
    )


def _one_of(settings: Mapping[str, Any], name: str, accepted: Sequence[str], default: str) -> str:
    value = settings.get(name, default)
    if value not in accepted:
        raise UsageError(f"{name}={value!r}: accepted are {', '.join(accepted)}.")
    return str(value)


def _words(settings: Mapping[str, Any], name: str) -> str | None:
    value = settings.get(name)
    return words_from_option(name, None if value is None else str(value))


def _claims(
    session: RunSession, tests: Mapping[Finding, Decides], wanted: Sequence[tuple[Finding, Target]]
) -> tuple[list[dict[str, Json]], list[dict[str, Json]]]:
    """Every claim that can be made, a pair at a time, and a row for each that cannot."""
    claims: list[dict[str, Json]] = []
    failed: list[dict[str, Json]] = []
    for finding, target in _pair_by_pair(session, wanted):
        made: list[dict[str, Json]] = []
        try:
            tests[finding](session.claim(finding, target, conclude=made.append))
        except TuneshiftError as error:
            place = {"finding": finding.id, "pair": target.pair.name, "prompts": target.on, "group": target.group}
            failed.append(plain({**place, "message": f"{finding.id} on {target.id}: {error}"}))
            continue
        if not made:
            raise UsageError(f"{finding.id}: its test ended without claim.decide(quantity), so nothing was decided.")
        claims += made
    return claims, failed


def _pair_by_pair(session: RunSession, wanted: Sequence[tuple[Finding, Target]]) -> Iterator[tuple[Finding, Target]]:
    """The claims pair by pair; what was read of a pair's evidence is let go of after it."""
    for pair in session.pairs:
        yield from ((finding, target) for finding, target in wanted if target.pair is pair)
        session.engine.forget()


def _call(*arguments: Any, **named: Any) -> str:
    """The call as it can be written again."""
    given = [_shown(a) for a in arguments if a is not None]
    given += [f"{name}={_shown(value)}" for name, value in named.items() if value is not None]
    return f"tuneshift.run({', '.join(given)})"


def _shown(value: Any) -> str:
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if isinstance(value, (ModelPair, ModelRef)):
        return f"<{type(value).__name__} {value.name}>"
    if isinstance(value, Finding):
        return f"<Finding {value.id}>"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    return f"<{value.__name__}>" if callable(value) else repr(value)
