"""Find lines of prose that a wrapper broke: one word alone, and the sentence goes on below it.

    python docs/broken_lines.py [FILE ...]     every Python file of the repository; exit 1 where there is one

Looked at are docstrings and other strings of several lines, comments, and strings in parts one below the other.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORD = re.compile(r"\(?[^\W\d_][^\s{}<>|=(;]*")
"""A word of prose: no number, item of a list, rule, formula or code."""

Lines = list[tuple[int, str]]
"""Text by line number, one below the other."""


def broken_lines(source: str) -> list[int]:
    """Numbers of the lines of ``source`` that hold one word of a sentence that goes on in the line below."""
    return sorted({number for lines in _prose(source) for number in _alone(lines)})


def _alone(lines: Lines) -> Iterator[int]:
    for (_, before), (number, text), (_, after) in zip(lines, lines[1:], lines[2:], strict=False):
        full = len(before.split()) > 1 and WORD.fullmatch(text.strip()) and not text.rstrip().endswith(":")
        if full and after.strip("\"' ") and len(after) - len(after.lstrip()) == len(text) - len(text.lstrip()):
            yield number


def _prose(source: str) -> Iterator[Lines]:
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for token in tokens:
        if token.type == tokenize.STRING and token.end[0] > token.start[0]:
            yield list(enumerate(token.string.split("\n"), start=token.start[0]))
    comments = (t for t in tokens if t.type == tokenize.COMMENT and t.line.lstrip().startswith("#"))
    yield from _runs((token, token.string.lstrip("#")) for token in comments)
    yield from _runs(_parts([token for token in tokens if token.type != tokenize.NL]))


def _parts(tokens: list[tokenize.TokenInfo]) -> Iterator[tuple[tokenize.TokenInfo, str]]:
    """Strings that are parts of one: each has another before or after it with nothing between them."""
    for before, token, after in zip([tokens[0], *tokens], tokens, [*tokens[1:], tokens[-1]], strict=False):
        if token.type == tokenize.STRING and tokenize.STRING in (before.type, after.type):
            yield token, token.string.strip("rbf").strip("\"'")


def _runs(pieces: Iterable[tuple[tokenize.TokenInfo, str]]) -> Iterator[Lines]:
    run: Lines = []
    for token, text in pieces:
        if run and token.start[0] != run[-1][0] + 1:
            yield run
            run = []
        run.append((token.start[0], text))
    yield run


def main() -> int:
    """Name every broken line."""
    named = sys.argv[1:]
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = 0
    for path in map(Path, named) if named else (ROOT / name for name in listed.split()):
        for number in broken_lines(path.read_text(encoding="utf-8")):
            found += 1
            print(f"{path}:{number}: one word alone; join it to the line above or below")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
