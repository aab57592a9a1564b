"""axe-core's rules on the report in headless Chromium, in both schemes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from chromium import in_chromium, needs_chromium
from run_records import compared_record, full_record, many_pairs_record, record
from sample_figures import realistic

from tuneshift.run_record import RunRecord

AXE = importlib.util.find_spec("axe_playwright_python")
needs_axe = pytest.mark.skipif(
    AXE is None, reason="axe-playwright-python is not installed (pip install 'tuneshift[dev]'): axe-core did not run"
)
"""Only its copy of axe-core is used: the rules run in the chromium that is on PATH."""

RULES = """
  d.documentElement.dataset.theme = "SCHEME";
  f.style.width = "WIDTHpx";
  for (const part of d.querySelectorAll("details")) part.open = true;
  setTimeout(async () => {
    const found = await w.axe.run(d, { iframes: false, resultTypes: ["violations", "incomplete"] });
    const node = (one) => one.html.slice(0, 200) + one.failureSummary;
    const told = (rows) => rows.map((row) => [row.id, row.nodes.length, ...row.nodes.slice(0, 3).map(node)]);
    finish({ passes: found.passes.length, violations: told(found.violations), incomplete: told(found.incomplete) });
  }, 300);
"""


def figures_record() -> RunRecord:
    """The ordinary record with figures of every kind."""
    held = full_record()
    return record([{**held.claims[0], "figures": realistic()}, *held.claims[1:]], list(held.examples))


def with_axe(page: str) -> str:
    """The page with axe-core in it, and without the policy that would keep any script but its own from running."""
    assert AXE is not None
    assert AXE.origin is not None
    source = (Path(AXE.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert free != page
    return free.replace("</body>", "<script>" + source.replace("</script", "<\\/script") + "</script></body>")


@needs_chromium
@needs_axe
@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.nightly), "dark"])
@pytest.mark.parametrize(
    ("build", "width"),
    [(figures_record, 1280), (compared_record, 390), (many_pairs_record, 1280)],
    ids=["one pair", "baseline on a phone", "several pairs"],
)
def test_axe_core_finds_nothing(tmp_path: Path, build: Any, width: int, scheme: str) -> None:
    seen, _ = in_chromium(tmp_path, build(), RULES.replace("SCHEME", scheme).replace("WIDTH", str(width)), with_axe)
    assert seen["passes"] > 20
    assert seen["violations"] == []
    # What axe leaves open: contrasts where elements overlap or are signs (test_colours.py computes those), and heads of
    # the rows of one finding, which have no cell of their own.
    assert {row[0] for row in seen["incomplete"]} <= {"color-contrast", "link-in-text-block", "th-has-data-cells"}
