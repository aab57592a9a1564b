"""The documentation builds without a warning, and asks nothing of a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

missing = [name for name in ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(missing), reason=f"{', '.join(missing)} not installed: pip install 'tuneshift[docs]'"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--site-dir",
            str(out),
            "--config-file",
            ROOT / "mkdocs.yml",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


class Loaded(HTMLParser):
    """Addresses that a browser fetches by itself, and ids and fragments of links."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.fetched += [value for name in ("src", "srcset", "data", "poster") if (value := given.get(name))]
        # A link to follow is fetched when a reader follows it; a canonical address never.
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.fetched.append(given.get("href") or "")


def test_every_page_of_docs_is_a_page_of_the_site(site):
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file()


def test_no_page_fetches_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        fetched = Loaded(page).fetched
        assert fetched, f"{page} has not even a style sheet"
        assert [address for address in fetched if re.match(r"(https?:)?//", address)] == []


def test_no_style_sheet_imports_from_elsewhere(site):
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")) == []


def test_tools_of_the_docs_are_not_published(site):
    assert {path.name for path in site.rglob("*.py")} == {"own_pair.py"}


def test_the_api_reference_has_docstrings_and_type_hints(site):
    text = (site / "api" / "findings.html").read_text(encoding="utf-8")
    for name in ("paired_difference", "Finding", "View.paired"):
        assert f'id="tuneshift.{name}"' in text
    hinted = re.sub(r"<[^>]+>", "", text)
    assert "Arm, *, clusters: Sequence[str] | None, level: float" in " ".join(hinted.split())
    assert "MacKinnon" in text
    assert "_t_interval" not in text


def test_the_worked_example_is_shown_whole(site):
    text = (site / "own-pair.html").read_text(encoding="utf-8")
    assert "write_report" in text
    assert "--8&lt;--" not in text


def test_links_to_files_outside_the_docs_become_their_paths(site):
    text = (site / "rule-adapter.html").read_text(encoding="utf-8")
    assert "fixtures/adapters/hewitt2024.toml" in text
    assert 'href="../fixtures' not in text
