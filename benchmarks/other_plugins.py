"""Whether a run of the suites makes the same claims and ends with the same code beside other pytest plugins.

    python benchmarks/other_plugins.py [TESTS ...]

Runs the suites (or TESTS, paths as pytest takes them) on the embedded pair without any of the plugins, then with each
that is installed, and compares claim by claim, byte by byte. The table is that of docs/other-plugins.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PLUGINS = {
    "pytest-json-report": "--json-report --json-report-file={out}/plugin.json",
    "pytest-rerunfailures": "--reruns=2",
    "pytest-repeat": "--count=3",
    "pytest-randomly": "--randomly-seed=7",
    "pytest-timeout": "--timeout=600",
    "pytest-cov": "--cov=tuneshift --cov-report=json:{out}/cov.json",
    "pytest-html": "--html={out}/plugin.html",
    "pytest-sugar": "--force-sugar",
    "pytest-split": "--splits=2 --group=1; --splits=2 --group=2",
    "allure-pytest": "--alluredir={out}/allure",
}
ROOT = Path(__file__).resolve().parents[1]


def run(tests: list[str], options: str, out: Path, *, randomly: bool = False) -> tuple[list[str], int]:
    """Every claim of a run as JSON text, and its exit code. Options after a semicolon are of a second shard."""
    claims: dict[str, None] = {}
    code = 0
    for number, part in enumerate(options.split(";")):
        folder = out / str(number)
        order = () if randomly else ("-p", "no:randomly")
        command = [sys.executable, "-m", "pytest", *tests, "-q", "-o", "addopts=", *order, f"--shift-out={folder}"]
        done = subprocess.run([*command, *part.format(out=folder).split()], cwd=ROOT, capture_output=True, text=True)
        if not (folder / "run.json").is_file():
            sys.exit(f"{options}: no run record\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        for claim in json.loads((folder / "run.json").read_text())["claims"]:
            own = {k: v for k, v in claim.items() if k not in ("adjusted_p", "q")}  # these are of a run, not a claim
            claims[json.dumps(own)] = None
        code = max(code, done.returncode)
    return sorted(claims), code


def main() -> None:
    tests = sys.argv[1:] or ["suites"]
    with tempfile.TemporaryDirectory() as folder:
        plain = run(tests, "", Path(folder) / "plain")
        print(
            f"{len(plain[0])} claims, exit code {plain[1]}\n\n| plugin | version | options | result |\n|" + " --- |" * 4
        )
        for plugin, options in PLUGINS.items():
            try:
                found = version(plugin)
            except PackageNotFoundError:
                print(f"| {plugin} | not installed | | |")
                continue
            out = Path(folder) / plugin
            same = run(tests, options, out, randomly=plugin == "pytest-randomly") == plain
            said = "same claims, same exit code" if same else "DIFFERS"
            print(f"| {plugin} | {found} | `{options.format(out='OUT')}` | {said} |", flush=True)


if __name__ == "__main__":
    main()
