"""What a run needs of the machine, looked at before the run: one function a check, each with what to do.

Nothing here contacts a network but `hub_check`, which the command calls only when it is asked to.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from ..errors import StoreError, counted

State = Literal["ok", "warn", "fail"]
Installed = Callable[[str], str]
"""Name of a distribution to its version; raises PackageNotFoundError."""

HUB_SECONDS = 5.0
"""Patience with the hub. A name that does not resolve, or a proxy that swallows, must not look like a hang."""

LEAST_BYTES, ENOUGH_BYTES = 100_000_000, 2_000_000_000
"""Free disk: below the first a run of the embedded pair may stop; the second holds two checkpoints of 7B (their verb
relations alone are estimated at 166 MB each, docs/verb-relations.md)."""

EXTRAS = {
    "minilm": "the default word space of the findings on weights; `--shift-word-vectors=FILE` does without",
    "ifeval": "prompt sets in IFEval's form",
    "peft": "PEFT adapters",
    "tune": "`tuneshift tune`",
    "openai": "annotators and judges behind an OpenAI-compatible endpoint",
    "parquet": "recorded evidence in Parquet",
}
"""Optional packages by the extra that brings them, with what they are for."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the doctor: what was looked at, ``ok``, ``warn`` or ``fail``, what was found, and what to do.

    ``warn``: a run works, but less of it or more slowly. ``fail``: a run stops. ``advice`` is empty for ``ok``.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def python_check(version: tuple[int, int] | None = None) -> Check:
    """Python's version against the oldest that is tested, 3.11."""
    found = version or (int(platform.python_version_tuple()[0]), int(platform.python_version_tuple()[1]))
    shown = platform.python_version() if version is None else ".".join(map(str, version))
    if found < (3, 11):
        return Check(name="python", state="fail", found=shown, advice="Use Python 3.11 or newer.")
    return Check(name="python", state="ok", found=shown)


def package_checks(
    requirements: Sequence[str] | None = None, installed: Installed = metadata.version
) -> tuple[Check, ...]:
    """One check for the packages that every run needs and one for each of `EXTRAS`.

    ``requirements`` as distributions declare them (default: tuneshift's own); ``installed`` gives versions.
    """
    declared = metadata.requires("tuneshift") or [] if requirements is None else requirements
    always, missing = _compared(declared, "", installed)
    state: State = "fail" if missing else "ok"
    advice = "Install tuneshift anew in this environment, from its repository: `pip install .`." if missing else ""
    checks = [Check(name="packages", state=state, found=", ".join([*missing, *always]), advice=advice)]
    for extra, purpose in EXTRAS.items():
        present, lacking = _compared(declared, extra, installed)
        if lacking:
            advice = f"Only for {purpose}: `pip install 'tuneshift[{extra}]'`."
            checks.append(Check(name=extra, state="warn", found=", ".join(lacking), advice=advice))
        elif present:
            checks.append(Check(name=extra, state="ok", found=", ".join(present)))
    return tuple(checks)


def _compared(declared: Sequence[str], extra: str, installed: Installed) -> tuple[list[str], list[str]]:
    """What is there and what is missing or too old, of the requirements of an extra (empty: of every installation)."""
    from packaging.requirements import Requirement

    present, lacking = [], []
    for line in declared:
        requirement = Requirement(line)
        wanted = requirement.marker is None if not extra else str(requirement.marker or "") == f'extra == "{extra}"'
        if not wanted:
            continue
        try:
            version = installed(requirement.name)
        except metadata.PackageNotFoundError:
            lacking.append(f"{requirement.name} is not installed")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            present.append(f"{requirement.name} {version}")
        else:
            lacking.append(f"{requirement.name} {version}, {requirement.specifier} is wanted")
    return present, lacking


def device_check(device: str = "auto") -> Check:
    """The device that a run would compute on, and its memory."""
    import torch

    from ..checkpoints.loading import resolve_device
    from ..errors import UsageError

    try:
        chosen = resolve_device(device)
    except UsageError as error:
        return Check(name="device", state="fail", found=str(error), advice="Choose another with `--shift-device`.")
    if chosen.type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen)
        found = f"{chosen}, {torch.cuda.get_device_name(chosen)}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"
        return Check(name="device", state="ok", found=found)
    memory = _main_memory()
    shown = f", {memory / 1e9:.0f} GB of main memory, room for {memory / 4e9:.1f} billion float32 weights"
    return Check(
        name="device",
        state="ok" if chosen.type == "mps" else "warn",
        found=f"{chosen}, {os.cpu_count()} cores{shown if memory else ''}",
        advice=""
        if chosen.type == "mps"
        else "Fine for the embedded pair; attribution of models of billions of "
        "weights wants a GPU (docs/big-models.md). If there is one, install a torch that was built for it.",
    )


def _main_memory() -> int:
    """Bytes of main memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def punkt_check(has_punkt: Callable[[], bool] | None = None) -> Check:
    """NLTK's data for parting text into sentences, which a few of IFEval's rules read."""
    from ..judges.ifeval import DOWNLOAD, NEED_PUNKT, has_punkt_data

    try:
        there = (has_punkt or has_punkt_data)()
    except ImportError:
        return Check(name="punkt_tab", state="ok", found="nltk is not installed, so nothing reads it")
    if there:
        return Check(name="punkt_tab", state="ok", found="NLTK's sentence data are there")
    rules = ", ".join(sorted(NEED_PUNKT))
    return Check(
        name="punkt_tab", state="warn", found="NLTK's data punkt_tab are not there",
        advice=f"Only for IFEval prompts with {rules}: `{DOWNLOAD}`.",
    )  # fmt: skip


def disk_check(name: str, folder: Path, free: Callable[[Path], int] | None = None) -> Check:
    """Whether a folder, or the first above it that exists, can be written to and has room."""
    there = next((path for path in (folder, *folder.absolute().parents) if os.path.exists(path)), folder)
    if not os.path.isdir(there):
        found = f"{there} is a file"
        return Check(name=name, state="fail", found=found, advice="Name a folder, or move the file away.")
    if not os.access(there, os.W_OK):
        advice = "Name another folder with `--shift-store` or `--shift-out`, or change its permissions."
        return Check(name=name, state="fail", found=f"{there} cannot be written to", advice=advice)
    room = shutil.disk_usage(there).free if free is None else free(there)
    found = f"{room / 1e9:.1f} GB free at {folder}"
    if room < LEAST_BYTES:
        return Check(name=name, state="fail", found=found, advice="Free some space: `tuneshift evidence prune` helps.")
    if room < ENOUGH_BYTES:
        advice = "Enough for small models. Before a pair of 7B: free some space, or name a folder on another disk."
        return Check(name=name, state="warn", found=found, advice=advice)
    return Check(name=name, state="ok", found=found)


def store_check(root: Path) -> Check:
    """The evidence store: number of sets, and what `Store.verify` says of every file in it."""
    from ..store.store import Store

    if not os.path.exists(root):
        return Check(name="store", state="ok", found=f"none yet at {root}; the first run makes it")
    kinds: dict[str, int] = {}
    try:
        for problem in Store(root).verify():
            kinds[problem.kind] = kinds.get(problem.kind, 0) + 1
        sets = sum(1 for _ in Store(root).list())
    except StoreError as error:
        return Check(name="store", state="fail", found=str(error), advice="Name another store with `--shift-store`.")
    counts = "".join(f", {count} {kind}" for kind, count in sorted(kinds.items()))
    found = f"{counted(sets, 'set')}{counts} in {root}"
    if kinds.keys() & {"unreadable", "future"}:
        advice = (
            "`tuneshift evidence verify` names the files; a newer tuneshift may have written them. Else delete them."
        )
        return Check(name="store", state="fail", found=found, advice=advice)
    if "damaged" in kinds:
        advice = "The next run measures what is damaged again; `tuneshift evidence verify` names the files."
        return Check(name="store", state="warn", found=found, advice=advice)
    return Check(name="store", state="ok", found=found)


def hub_check(reach: Callable[[str, float], None] | None = None) -> Check:
    """Whether the hub answers within `HUB_SECONDS`. The one check that uses the network."""
    from http.client import HTTPException

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        advice = "Unset HF_HUB_OFFLINE to download checkpoints; local folders and what is cached work without."
        return Check(name="hub", state="warn", found="HF_HUB_OFFLINE is set", advice=advice)
    try:
        (reach or _reach)(constants.ENDPOINT, HUB_SECONDS)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: $HF_ENDPOINT is no address
        return Check(
            name="hub", state="fail", found=f"{constants.ENDPOINT} does not answer ({error})",
            advice="Check network and proxy, or name local folders: they need no hub.",
        )  # fmt: skip
    return Check(name="hub", state="ok", found=f"{constants.ENDPOINT} answers")


def _reach(address: str, seconds: float) -> None:
    """Ask for the head of the hub's front page; any answer of a server counts. Raises OSError where none comes."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(address, method="HEAD"), timeout=seconds):
            pass
    except HTTPError as error:
        if error.code >= 500:
            raise
