"""Check a family: its files against their checksums, and its cards' numbers by measuring again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..resources import fixture
from .build import measure_member
from .card import read_family, sha256
from .recipe import FAMILY, PROMPTS


@dataclass(frozen=True, kw_only=True)
class CheckedNumber:
    """One number of a card: what the card says, with its interval, and what was measured now."""

    member: str
    quantity: str
    card: float
    interval: tuple[float, float]
    measured: float

    @property
    def holds(self) -> bool:
        """Whether the number measured now lies in the card's interval."""
        low, high = self.interval
        return low <= self.measured <= high


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Files whose checksum differs or that are missing, and every number that was measured again."""

    damaged: tuple[str, ...]
    numbers: tuple[CheckedNumber, ...]

    @property
    def passed(self) -> bool:
        """Whether all files and all numbers hold."""
        return not self.damaged and all(number.holds for number in self.numbers)


def check(
    folder: Path | None = None,
    prompts: Path | None = None,
    *,
    members: Sequence[str] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> CheckResult:
    """Result of checking the family in ``folder`` (the shipped one by default) on ``prompts`` (the shipped set).

    ``members`` limits which are measured; checksums are verified for all. ``tell`` is given a line per number. Damaged
    files end the check before anything is measured. Raises UsageError for a folder without ``family.json``.
    """
    folder = fixture(FAMILY) if folder is None else Path(folder)
    prompts = prompts or _prompts(folder)
    family = read_family(folder)
    unknown = [name for name in members if name not in family["members"]]
    if unknown:
        raise UsageError(f"no member {', '.join(unknown)} in {folder}; it has {', '.join(family['members'])}.")
    damaged = damaged_files(folder, prompts, family)
    if damaged:
        return CheckResult(damaged=damaged, numbers=())
    numbers = []
    for name in members or family["members"]:
        measured, _ = measure_member(folder / name, prompts, **family["evaluation"])
        for number in compare(name, family["members"][name]["measured"], measured.plain()):
            tell(f"{name} {number.quantity}: card {number.card:.3f} {list(number.interval)}, now {number.measured:.3f}")
            numbers.append(number)
    return CheckResult(damaged=(), numbers=tuple(numbers))


def _prompts(folder: Path) -> Path:
    """The prompt set beside the members, as a build leaves it, else the shipped one."""
    own = folder / PROMPTS
    return own if own.exists() else fixture(f"prompts/{PROMPTS}")


def damaged_files(folder: Path, prompts: Path, family: Mapping[str, Any]) -> tuple[str, ...]:
    """Files that are missing or whose SHA-256 is not the recorded one."""
    expected = {prompts: family["prompts"][PROMPTS]}
    expected |= {folder / file: digest for file, digest in family.get("files", {}).items()}
    for name, row in family["members"].items():
        expected |= {folder / name / file: digest for file, digest in row["sha256"].items()}
    return tuple(str(path) for path, digest in expected.items() if not path.is_file() or sha256(path) != digest)


def compare(member: str, card: Mapping[str, Any], now: Mapping[str, Any]) -> list[CheckedNumber]:
    """The card's shares beside those measured now."""
    return [
        CheckedNumber(
            member=member,
            quantity=name,
            card=row["mean"],
            interval=(row["low"], row["high"]),
            measured=now["shares"][name]["mean"],
        )
        for name, row in card["shares"].items()
    ]
