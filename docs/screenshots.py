"""Screenshots of an HTML report in headless Chromium: light and dark, wide and narrow.

    python docs/screenshots.py tuneshift-results/report.html OUT_FOLDER [--chromium PATH] [--height PIXELS]

Writes ``NAME-{1280,390}-{light,dark}.png`` and prints each path. The whole page is in the picture: the height is that
of the laid-out page unless ``--height`` cuts it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

WIDTHS = (1280, 390)
SCHEMES = {"light": 1, "dark": 0}
"""Blink's numbers for the preferred colour scheme."""
TALLEST = 16_000
"""Pixels; Chromium's software rasteriser draws no picture beyond 16,384."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
# The page's script policy lets no probe in, so a frame around the page measures it and reports through the title.
# Headless windows are never narrower than 500 pixels; the frame has the width that is asked for.
FRAME = """<!doctype html><title>0</title><style>html,body{{margin:0}}iframe{{border:0;display:block;width:{width}px;
height:{height}px}}</style><iframe src="{url}" onload="document.title='h'+
this.contentDocument.documentElement.scrollHeight"></iframe>"""


def chromium(binary: str, scheme: str, *arguments: str) -> str:
    """Standard output of one headless run in a fresh profile."""
    with tempfile.TemporaryDirectory(prefix="tuneshift-chromium-") as profile:
        command = [binary, *FLAGS, f"--user-data-dir={profile}", "--allow-file-access-from-files"]
        command += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def page_height(binary: str, report: Path, width: int) -> int:
    """Height in pixels of the report laid out at a width."""
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.html"
        frame.write_text(FRAME.format(width=width, height=900, url=report.as_uri()), encoding="utf-8")
        page = chromium(binary, "light", "--dump-dom", frame.as_uri())
    found = re.search(r"<title>h(\d+)</title>", page)
    if not found:
        raise SystemExit(f"Chromium did not lay out {report}; open it in a window to see why.")
    return min(int(found[1]), TALLEST)


def shoot(binary: str, report: Path, out: Path, width: int, scheme: str, height: int) -> Path:
    """One picture of the report."""
    picture = out / f"{report.stem}-{width}-{scheme}.png"
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.html"
        frame.write_text(FRAME.format(width=width, height=height, url=report.as_uri()), encoding="utf-8")
        size = f"--window-size={width},{height}"
        chromium(binary, scheme, size, f"--screenshot={picture}", frame.as_uri())
    return picture


def main() -> None:
    """Read the options and take the four pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--height", type=int)
    options = parser.parse_args()
    if not options.chromium:
        parser.error("no chromium on PATH; name one with --chromium")
    report = options.report.resolve(strict=True)
    options.out.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        height = options.height or page_height(options.chromium, report, width)
        for scheme in SCHEMES:
            print(shoot(options.chromium, report, options.out.resolve(), width, scheme, height))


if __name__ == "__main__":
    main()
