"""What the site needs beyond Markdown: links to files that are not pages become their paths."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[(?P<text>[^\]]+)\]\((?:\.\./)+(?P<path>(?:fixtures|suites|plugins|tests|benchmarks)/[^)#]*)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """``[text](../fixtures/x)`` works in a checkout and on a forge; on the site it says where the file is."""
    return OUTSIDE.sub(lambda found: f"{found['text']} (`{found['path']}`)", markdown)
