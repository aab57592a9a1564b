"""Size of a report over many pairs, time to render it, and time until headless Chromium shows it.

    python benchmarks/report.py tuneshift-results/run.json [--pairs 10] [--prompts 300] [--out FOLDER] [--chromium PATH]

The claims of a real run record are repeated for every pair with seeded noise in their values, at the given number of
prompts, each with a comparison against a baseline: findings, figures and texts are as heavy as in the run. Chromium's
time is from the start of the navigation until the load event was handled and the whole page laid out; beside it the
time of a process that takes a picture of the page, and of one that takes a picture of an empty page.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tuneshift.report.html import render_html
from tuneshift.run_record import RunRecord, read_record

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
    "--window-size=1280,900",
)
# The page's policy lets no probe in; the frame around it reads the clock of the page's own navigation.
FRAME = """<!doctype html><title>0</title><style>html,body{margin:0}iframe{border:0;width:1280px;height:900px}</style>
<iframe src="URL" onload="this.contentDocument.documentElement.scrollHeight;
document.title='t'+this.contentWindow.performance.now()"></iframe>"""


def repeated(record: RunRecord, pairs: int, prompts: int, seed: int = 0) -> RunRecord:
    """The record's claims on ``pairs`` pairs, each with ``prompts`` values an arm where it counts prompts."""
    draw = random.Random(seed)
    claims, named, examples = [], [], []
    for k in range(pairs):
        name = f"pair-{k + 1}"
        claims += [moved(claim, name, prompts, draw) for claim in record.claims]
        named.append({**record.pairs[0], "name": name})
        examples += [{**example, "pair": name} for example in record.examples]
    run = {**record.run, "baseline": {"name": "good", "saved": record.run.get("started"), "tuned": "0" * 64}}
    return RunRecord(schema=record.schema, run=run, pairs=named, claims=claims, examples=examples)


def moved(claim: Any, pair: str, prompts: int, draw: random.Random) -> dict[str, Any]:
    """A claim on another pair, with noise in its effect and in those values that are no answers of yes and no."""
    values = {}
    for label, arm in claim["values"].items():
        counts_prompts = claim["items"] == "prompts"
        n = prompts if counts_prompts else len(arm["ids"])
        x = [arm["x"][k % len(arm["x"])] for k in range(n)]
        noisy = [v if v in (0, 0.5, 1) else round(v + draw.gauss(0, 0.05), 6) for v in x]
        values[label] = {"ids": [f"prompt-{k + 1:03}" for k in range(n)] if counts_prompts else arm["ids"], "x": noisy}
    change = draw.gauss(0, 0.05)
    comparison = {
        "baseline": "good",
        "outcome": draw.choice(("held", "held", "held", "improved", "regressed", "inconclusive")),
        "effect": change,
        "interval": [change - 0.04, change + 0.04],
        "level": claim["level"],
        "p": draw.random(),
        "margin": claim["sesoi"],
        "n": prompts,
        "n_needed": None,
        "new_items": 0,
        "gone_items": 0,
        "reason": "The interval of the change decides.",
    }
    return {**claim, "pair": pair, "values": values, "comparison": comparison}


def seconds_in(command: list[str]) -> tuple[float, str]:
    """Wall time of a Chromium process in a fresh profile, and its standard output."""
    with tempfile.TemporaryDirectory(prefix="tuneshift-chromium-") as profile:
        started = time.perf_counter()
        done = subprocess.run(
            [*command, f"--user-data-dir={profile}"], check=True, capture_output=True, text=True, timeout=120
        )
        return time.perf_counter() - started, done.stdout


def load_seconds(chromium: str, page: Path, folder: Path) -> float:
    """Seconds from the start of the navigation until the page was loaded and laid out."""
    frame = folder / "frame.html"
    frame.write_text(FRAME.replace("URL", page.as_uri()), encoding="utf-8")
    _, dom = seconds_in([chromium, *FLAGS, "--dump-dom", frame.as_uri()])
    found = re.search(r"<title>t([\d.]+)</title>", dom)
    if not found:
        raise SystemExit("Chromium did not load the page.")
    return float(found[1]) / 1000


def picture_seconds(chromium: str, page: Path, folder: Path) -> float:
    """Seconds that a process takes to start, show the page, and write a picture of it."""
    return seconds_in([chromium, *FLAGS, f"--screenshot={folder / 'shot.png'}", page.as_uri()])[0]


def main() -> None:
    """Render, measure, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--out", type=Path, help="keep the page in this folder")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    options = parser.parse_args()
    held = repeated(read_record(options.record), options.pairs, options.prompts)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        html = render_html(held)
        times.append(time.perf_counter() - started)
    result = {
        "pairs": options.pairs,
        "prompts": options.prompts,
        "claims": len(held.claims),
        "megabytes": round(len(html.encode()) / 1e6, 2),
        "render_s": round(statistics.median(times), 2),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        page, empty = folder.resolve() / "report.html", Path(temporary) / "empty.html"
        page.write_text(html, encoding="utf-8")
        empty.write_text("<!doctype html><title>empty</title>", encoding="utf-8")
        if options.chromium:
            loads = [load_seconds(options.chromium, page, Path(temporary)) for _ in range(5)]
            result["load_and_layout_s"] = round(statistics.median(loads), 2)
            result["picture_s"] = round(picture_seconds(options.chromium, page, Path(temporary)), 2)
            result["empty_picture_s"] = round(picture_seconds(options.chromium, empty, Path(temporary)), 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
