"""The findings that the suites declare, and the tests that decide them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..resources import data_folder
from .finding import Finding

if TYPE_CHECKING:
    from .claim import Claim


@cache
def findings() -> tuple[Finding, ...]:
    """Every finding of the shipped suites, in the order of files and of definition within them."""
    return tuple(value for module in _suites() for value in vars(module).values() if isinstance(value, Finding))


@cache
def finding_tests() -> Mapping[Finding, Callable[[Claim], None]]:
    """Each shipped finding's test function, which takes its claim and nothing else, in the order of `findings`."""
    marked = [(marked_finding(value), value) for module in _suites() for value in vars(module).values()]
    by_finding = {finding: test for finding, test in marked if finding is not None}
    return {finding: by_finding[finding] for finding in findings()}


def marked_finding(test: Any) -> Finding | None:
    """The finding that ``@pytest.mark.finding`` names on a test function; None for anything else."""
    marks = getattr(test, "pytestmark", ()) if callable(test) else ()
    return next((mark.args[0] for mark in marks if mark.name == "finding"), None)


def _suites() -> list[ModuleType]:
    return [import_module(f"tuneshift.suites.{path.stem}") for path in sorted(data_folder("suites").glob("test_*.py"))]
