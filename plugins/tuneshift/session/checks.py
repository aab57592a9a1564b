"""Everything that can be wrong with a run before weights are loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..annotators.registry import make_annotator
from ..backends.spec import check_backend, is_served, served_as
from ..checkpoints.devices import device_name
from ..checkpoints.refs import ModelRef
from ..checkpoints.tokenizers import require_same_tokenizer
from ..engine.settings import backend_of
from ..errors import UsageError
from ..judges.base import IFEVAL
from ..judges.ifeval import check_ifeval
from ..judges.registry import make_judge
from ..measures.adapter_rules import load_rules
from ..pairs import ModelPair

if TYPE_CHECKING:
    from .run import RunSession


def check_run(run: RunSession) -> None:
    """Look for everything that can be wrong before weights are loaded: files, formats, architectures, tokenizers,
    prompt sets, expectations, the store. Raises the first TuneshiftError found."""
    _ = run.targets, run.expectations
    if run.options.update_expectations:
        _check_update(run)
    make_annotator(run.settings.annotator)
    load_rules(run.settings.rules)
    for spec in run.settings.judges:
        make_judge(spec)
    if IFEVAL in run.settings.judges:
        check_ifeval([prompt for target in run.targets for prompt in target.members])
    if os.path.exists(run.options.store) and not os.path.isdir(run.options.store):
        raise UsageError(f"The evidence store {run.options.store} is a file; --shift-store takes a folder.")
    for pair in run.pairs:
        _check_backends(run, pair)
        _check_checkpoints(run, pair)


def check_start(run: RunSession, option: Any) -> None:
    """All that pytest's start finds, before anything is measured: the run, and where it goes on the folder of its
    record and the baselines. ``option``: pytest's. Raises TuneshiftError."""
    check_run(run)
    if not (option.shift_plan or option.collectonly):
        from .console import require_output_folder

        note_equal_weights(run)
        require_output_folder(Path(option.shift_out))
    if option.shift_save or option.shift_compare or option.shift_margin or option.shift_min_power:
        from .gating import check_gating

        check_gating(run)


def _check_update(run: RunSession) -> None:
    """Whether every pair has an expectations file of its own to rewrite. Raises UsageError."""
    option = "--shift-update-expectations"
    if run.options.prompts:
        raise UsageError(f"{option} rewrites what pairs declare on their own prompt sets; leave --shift-prompts out.")
    owners: dict[Path, str] = {}
    for pair in run.pairs:
        if pair.expectations is None:
            raise UsageError(
                f"{option}: pair {pair.name} names no expectations file. Declare it in a pair file with "
                f'expectations = "{pair.name}.toml" under [pairs.{pair.name}]; the file need not exist yet.'
            )
        if pair.recorded is not None and pair.expectations.is_relative_to(pair.recorded.folder):
            raise UsageError(
                f"{option}: the outcomes of pair {pair.name} are declared in the evidence file {pair.recorded.path}, "
                "which is not rewritten; declare the pair in a pair file with `evidence` and `expectations`."
            )
        other = owners.setdefault(pair.expectations.resolve(), pair.name)
        if other != pair.name:
            raise UsageError(
                f"{option}: pairs {other} and {pair.name} share {pair.expectations}, which cannot say both their "
                "outcomes. Give each a file of its own, or choose one with --pair."
            )


def _check_backends(run: RunSession, pair: ModelPair) -> None:
    """Backends as they are written, and that no server answers for two checkpoints under one name."""
    served: dict[tuple[str, str], tuple[str, ModelRef]] = {}
    for role, ref in pair.roles.items():
        backend = None if ref.evidence is not None else backend_of(ref, run.settings)
        if backend is None:
            continue
        check_backend(backend)
        if run.options.noise_floor and is_served(backend):
            raise UsageError(
                f"pair {pair.name}: no noise floor can be taken of {role} behind {backend.name!r}: a server "
                "computes in its own precision and batches, so that a second measurement would be the first once "
                "more. Leave --shift-noise-floor out, or measure without the backend."
            )
        at = served_as(backend, ref)
        if at is None:
            continue
        other, first = served.setdefault(at, (role, ref))
        if _weights(first) != _weights(ref):
            raise UsageError(
                f"pair {pair.name}: {other} and {role} are both asked for at {at[0]} as {at[1]!r}, so that one "
                "checkpoint would answer for both; give each checkpoint its backend in a pair file, with a "
                "base_url or model of its own."
            )


def _check_checkpoints(run: RunSession, pair: ModelPair) -> None:
    live = [ref for ref in pair.roles.values() if ref.evidence is None]
    if live:
        device_name(run.settings.device)
    for ref in live:
        run.inspected(ref)
    for ref in live:
        if ref is not pair.base and pair.base.evidence is None:
            found = require_same_tokenizer(pair.base, ref, run.planner.readings)
            run.note(pair, found)


def note_equal_weights(run: RunSession) -> None:
    """Note the checkpoints that hold their base's numbers. Reads all weights once (their hashes are remembered), which
    the keys of evidence need next; so not for a run that measures nothing."""
    for pair in run.pairs:
        for ref in pair.roles.values():
            live = ref is not pair.base and ref.evidence is None and pair.base.evidence is None
            if live and run.planner.fingerprint(ref) == run.planner.fingerprint(pair.base):
                same = "the weights of its base, number for number: they can only differ by how they are asked"
                run.note(pair, [f"{ref.name} has {same}"])


def _weights(ref: ModelRef) -> tuple[str | None, ...]:
    return ref.model, ref.revision, ref.adapter
