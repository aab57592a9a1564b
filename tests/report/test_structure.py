"""The page's structure against a golden outline: landmarks, headings, tables, figures and facts in their order.

The outline lies beside this file. Where it is missing, the test writes it and fails: delete it after a change that is
meant, run the test, and read the difference.
"""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_records import claim, compared_record, example, full_record, record
from sample_figures import realistic

from tuneshift.report.html import render_html
from tuneshift.run_record import RunRecord

GOLDEN = Path(__file__).parent / "golden"
SHOWN = {"header", "nav", "main", "section", "article", "figure", "table", "details", "dl", "ul", "figcaption"}
TOLD = {"h1", "h2", "h3", "h4", "caption", "summary", "dt", "th"}
"""Elements whose text is part of the outline, cut after forty characters."""
VOID = {"meta", "br", "input", "link", "img", "hr"}


class Outline(HTMLParser):
    """Indented lines: an element with its id, class and role, and for heads and captions how their text begins."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._open: list[str] = []
        self._text: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._open.append(tag)
        named = dict(attrs)
        # Heads of rows are data, not structure.
        if tag in SHOWN | TOLD and named.get("scope") != "row":
            depth = sum(name in SHOWN for name in self._open[:-1])
            marks = "".join(f" {k}={named[k]}" for k in ("id", "class", "role", "scope") if named.get(k))
            self.lines.append("  " * depth + tag + marks)
            if tag in TOLD:
                self._text = []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Leaves of drawings are no structure."""

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()
        if tag in TOLD and self._text is not None:
            text = " ".join("".join(self._text).split())
            self.lines[-1] += f": {text[:40]}"
            self._text = None

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)


def one_pair() -> RunRecord:
    """An ordinary run on one pair with figures of every kind, and an example."""
    held = full_record()
    return record([{**held.claims[0], "figures": realistic()}, *held.claims[1:]], list(held.examples))


def two_pairs() -> RunRecord:
    """Two findings on two pairs."""
    claims = [claim(f, pair=p) for f in ("x2024.one", "x2024.two") for p in ("a", "b")]
    return record(claims, [example(pair="a")], ["a", "b"])


@pytest.mark.parametrize("build", [one_pair, compared_record, two_pairs])
def test_the_structure_is_the_golden_one(build: object) -> None:
    assert callable(build)
    outline = "\n".join(Outline(render_html(build())).lines) + "\n"
    golden = GOLDEN / f"{build.__name__}.txt"
    if not golden.is_file():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(outline, encoding="utf-8")
        pytest.fail(f"{golden.name} was missing and is written now; read it, then commit it")
    assert outline.splitlines() == golden.read_text(encoding="utf-8").splitlines()
