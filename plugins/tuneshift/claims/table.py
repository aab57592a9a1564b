"""Claims as a table in a terminal: a line a claim where all columns fit, else without the spare one, else two lines."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

INDENT = "    "


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Heads of the columns; ``first``: columns that stay on a claim's first line where it takes two; ``spare``: the
    column that goes before that; ``named``: columns whose head stands before the value on the second line."""

    head: tuple[str, ...]
    first: tuple[int, ...]
    spare: int | None = None
    named: tuple[int, ...] = ()


def terminal_width() -> int:
    """Columns of the terminal, or of ``$COLUMNS``; 80 where there is none, as pytest takes it."""
    return shutil.get_terminal_size().columns


def table_lines(layout: Layout, rows: Sequence[Sequence[str]], width: int) -> tuple[list[str], list[list[str]]]:
    """The head's lines, and the lines of each row: none longer than ``width``, but for a word that is."""
    columns = range(len(layout.head))
    for shown in (list(columns), [k for k in columns if k != layout.spare]):
        lines = _aligned([[row[k] for k in shown] for row in (layout.head, *rows)])
        if max(map(len, lines)) <= width:
            return [lines[0]], [[line] for line in lines[1:]]
    firsts = _aligned([[row[k] for k in layout.first] for row in rows])
    return [], [
        [*_folded([first], width, ""), *_folded(_rest(layout, row), width, INDENT)]
        for first, row in zip(firsts, rows, strict=True)
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _rest(layout: Layout, row: Sequence[str]) -> list[str]:
    """What stands on a claim's second line: its cells but for those of the first and for empty ones."""
    parts = [
        f"{layout.head[k]} {cell}" if k in layout.named else cell
        for k, cell in enumerate(row)
        if k not in layout.first and cell != "–"
    ]
    return [f"{part};" for part in parts[:-1]] + parts[-1:]


def _folded(parts: Sequence[str], width: int, indent: str) -> list[str]:
    """The parts one after the other, on as many lines as they take; one that is longer than a line is broken."""
    # A no-break space keeps a part together.
    line = " ".join(part.replace(" ", "\xa0") if len(indent) + len(part) <= width else part for part in parts)
    folded = textwrap.wrap(
        line, width, initial_indent=indent, subsequent_indent=indent or INDENT, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return [part.replace("\xa0", " ") for part in folded]
