"""The shipped world and its wordings, read once."""

from __future__ import annotations

import pytest

from tuneshift.embedded.recipe import load_workbook
from tuneshift.embedded.tasks import Workbook


@pytest.fixture(scope="session")
def book() -> Workbook:
    return load_workbook(0)
