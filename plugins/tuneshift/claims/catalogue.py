"""The findings that the suites declare."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from ..resources import data_folder
from .finding import Finding


@cache
def findings() -> tuple[Finding, ...]:
    """Every finding of the shipped suites, in the order of files and of definition within them."""
    modules = (
        import_module(f"tuneshift.suites.{path.stem}") for path in sorted(data_folder("suites").glob("test_*.py"))
    )
    return tuple(value for module in modules for value in vars(module).values() if isinstance(value, Finding))
