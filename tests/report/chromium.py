"""The report in headless Chromium, seen by a frame around it."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from run_records import Row

from tuneshift.report.html import write_report
from tuneshift.run_record import RunRecord

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on PATH: the report was not opened in a browser"
)
FRAME = """<!doctype html><meta charset="utf-8"><title>waiting</title>
<iframe id=f style="width:390px;height:800px" src="URL"></iframe>
<script>
const finish = (seen) => {
  document.title = "done";
  document.body.textContent = JSON.stringify(seen);
};
f.onload = () => {
  const w = f.contentWindow, d = f.contentDocument, seen = {};
  PROBE
};
</script>"""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
)


def in_chromium(
    folder: Path, held: RunRecord, probe: str, changed: Callable[[str], str] | None = None
) -> tuple[Row, str]:
    """What a probe saw of the report, and the browser's console.

    ``probe`` is JavaScript that has the report's window ``w``, its document ``d`` and an object ``seen`` to fill, and
    calls ``finish(seen)``; ``f`` is the frame that holds the report. ``changed`` may alter the report's HTML.
    """
    assert CHROMIUM is not None
    report = write_report(held, folder / "report.html")
    if changed is not None:
        report.write_text(changed(report.read_text(encoding="utf-8")), encoding="utf-8")
    page = folder / "probe.html"
    page.write_text(FRAME.replace("URL", report.as_uri()).replace("PROBE", probe), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(folder)})
    found = re.search(r"<body[^>]*>(.*?)</body>", done.stdout, re.S)
    assert found, done.stderr[-2000:]
    assert "<title>done</title>" in done.stdout, done.stdout[-500:] + done.stderr[-2000:]
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return json.loads(html.unescape(found[1])), console
