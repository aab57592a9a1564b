"""What the pages say to type, and the code that they show: read from Markdown for the tests."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]))
PROGRAMS = ("tuneshift", "pytest", "python", "make", "bash", "pip", "time", "git")
FENCE = re.compile(r"^(?P<indent> *)(?P<mark>```+)(?P<language>\w*)")
LANGUAGES = {"sh": "shell", "bash": "shell", "console": "shell", "shell": "shell"}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced or indented block: page, line of its first line, language by its fence or else by its look."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        """For the names of tests."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line of a shell block, without environment, ``time``, prompt and comment, and the output shown below.

    ``output`` is None where the block shows none: only lines after a ``$ command`` are output.
    """

    where: str
    words: tuple[str, ...]
    output: str | None = None

    @property
    def line(self) -> str:
        """As it would be typed."""
        return shlex.join(self.words)


def blocks() -> Iterator[Block]:
    """Every block of every page, in order."""
    for page in PAGES:
        yield from blocks_of(page, page.read_text(encoding="utf-8"))


def blocks_of(page: Path, text: str) -> Iterator[Block]:
    """The blocks of one page."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        fence = FENCE.match(lines[at])
        if fence:
            end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == fence["mark"])
            body = "\n".join(line.removeprefix(fence["indent"]) for line in lines[at + 1 : end])
            language = fence["language"]
            yield Block(page=page, line=at + 2, language=LANGUAGES.get(language, language) or look(body), text=body)
            at = end + 1
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()) and not in_list(lines, at):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            body = "\n".join(line[4:] for line in lines[at:end]).rstrip()
            yield Block(page=page, line=at + 1, language=look(body), text=body)
            at = end
        else:
            at += 1


def in_list(lines: list[str], at: int) -> bool:
    """Whether an indented line belongs to the list item above it, as a further paragraph."""
    before = next((line for line in reversed(lines[:at]) if line.strip() and not line.startswith("  ")), "")
    return re.match(r"(-|\d+\.) ", before) is not None


def look(body: str) -> str:
    """What an unnamed block is: shell, toml, python, json lines, or text."""
    first = next((line for line in body.split("\n") if line.strip()), "")
    if unprompted(first)[:1] and unprompted(first)[0] in PROGRAMS:
        return "shell"
    if re.match(r"\[+[\w.-]+\]+", first):
        return "toml"
    if re.match(r"(from|import|def|class|@)\b", first):
        return "python"
    return "jsonl" if first.startswith('{"') else "text"


def unprompted(line: str) -> list[str]:
    """Words of a command line without prompt, comment, assignments of the environment and ``time``."""
    try:
        words = shlex.split(line.removeprefix("$ "), comments=True)
    except ValueError:  # prose with an apostrophe
        return []
    while words and (words[0] == "time" or re.match(r"[A-Z_]+=", words[0])):
        words = words[1:]
    return words


def commands() -> Iterator[Command]:
    """Every command line of every shell block."""
    for block in blocks():
        if block.language != "shell":
            continue
        lines = block.text.replace("\\\n", " ").split("\n")
        prompted = any(line.startswith("$ ") for line in lines)
        for at, line in enumerate(lines):
            if not line.strip() or line.startswith("#") or (prompted and not line.startswith("$ ")):
                continue
            output = None
            if prompted:
                rest = lines[at + 1 :]
                end = next((i for i, other in enumerate(rest) if other.startswith("$ ")), len(rest))
                output = "\n".join(rest[:end]).strip() or None
            for part in split_at_and(unprompted(line)):
                yield Command(where=f"{block.where}+{at}", words=part, output=output)


def split_at_and(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Commands joined by ``&&``."""
    part: list[str] = []
    for word in [*words, "&&"]:
        if word == "&&":
            yield tuple(part)
            part = []
        else:
            part.append(word)


def inline(program: str) -> Iterator[tuple[str, str]]:
    """(where, code) of every inline code that begins with a program's name."""
    for page in PAGES:
        prose = re.sub(r"(?ms)^( *)```.*?^\1```", lambda block: "\n" * block[0].count("\n"), page.read_text("utf-8"))
        for number, line in enumerate(prose.split("\n"), start=1):
            if not line.startswith("    "):
                for code in re.findall(rf"(?<!`)`({program} [^`]*)`(?!`)", line):
                    yield f"{page.relative_to(ROOT).as_posix()}:{number}", code
