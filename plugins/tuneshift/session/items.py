"""A test of a finding, as pytest holds it: its finding, its target, and whether it makes a claim.

Loaded with the plugin in every pytest run, so it imports nothing heavy at its top.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from ..claims.finding import Finding
    from ..engine.progress import Bars
    from ..plain import Json
    from .requests import Target


def finding_of(item: pytest.Item) -> Finding:
    """The finding that the test's marker names."""
    marker = item.get_closest_marker("finding")
    assert marker is not None
    found: Finding = marker.args[0]
    return found


def target_of(item: pytest.Item) -> Target:
    """The pair, prompt set and group that the test is about."""
    target: Target = item.callspec.params["claim"]  # type: ignore[attr-defined]
    return target


def place_of(item: pytest.Item) -> dict[str, Json]:
    """Where the claim stands that the test makes, as in a record of a claim."""
    target = target_of(item)
    return {"finding": finding_of(item).id, "pair": target.pair.name, "prompts": target.on, "group": target.group}


def makes_claim(item: pytest.Item) -> bool:
    """Whether the test decides a finding: one that is marked and takes the fixture ``claim``."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    return item.get_closest_marker("finding") is not None and "claim" in params


def waiting(item: pytest.Item, bars: Bars | None) -> AbstractContextManager[object]:
    """A line a minute while the test of a finding runs; nothing for other tests and without ``bars``."""
    if bars is None or not makes_claim(item):
        return nullcontext()
    return bars(f"deciding {finding_of(item).id} on {target_of(item).id}", 0, 0, "claim")


def wanted(session: pytest.Session) -> list[tuple[Finding, Target]]:
    """The claims that the selected tests make."""
    return [(finding_of(item), target_of(item)) for item in session.items if makes_claim(item)]
