"""Claims as a table: as many columns as fit, and nothing lost where they do not."""

from __future__ import annotations

import pytest

from tuneshift.claims.table import Layout, table_lines, terminal_width

LAYOUT = Layout(head=("name", "n", "means", "effect", "verdict"), first=(0, 4), spare=2, named=(1,))
ROWS = [("a.long", "12", "0.1 → 0.2", "+0.1 [0, 0.2]", "yes"), ("b", "7", "–", "–", "not applicable")]


def test_all_columns_where_they_fit_aligned_under_their_heads() -> None:
    head, rows = table_lines(LAYOUT, ROWS, 60)
    assert head == ["name    n   means      effect         verdict"]
    assert rows == [
        ["a.long  12  0.1 → 0.2  +0.1 [0, 0.2]  yes"],
        ["b       7   –          –              not applicable"],
    ]
    assert table_lines(LAYOUT, ROWS, max(len(row[0]) for row in rows)) == (head, rows)


def test_the_spare_column_goes_first() -> None:
    whole = max(len(row[0]) for row in table_lines(LAYOUT, ROWS, 60)[1])
    head, rows = table_lines(LAYOUT, ROWS, whole - 1)
    assert head == ["name    n   effect         verdict"]
    assert [len(lines) for lines in rows] == [1, 1]


def test_then_each_claim_takes_two_lines_without_empty_cells() -> None:
    head, rows = table_lines(LAYOUT, ROWS, 40)
    assert head == []
    assert rows == [
        ["a.long  yes", "    n 12; 0.1 → 0.2; +0.1 [0, 0.2]"],
        ["b       not applicable", "    n 7"],
    ]


@pytest.mark.parametrize("width", range(24, 64))
def test_no_line_is_longer_and_no_cell_is_lost_or_broken(width: int) -> None:
    head, rows = table_lines(LAYOUT, ROWS, width)
    assert max(len(line) for lines in [head, *rows] for line in lines) <= width
    for cells, lines in zip(ROWS, rows, strict=True):
        wanted = [cell for k, cell in enumerate(cells) if k != LAYOUT.spare and cell != "–"]
        assert all(any(cell in line for line in lines) for cell in wanted)


def test_a_name_longer_than_the_terminal_keeps_its_line() -> None:
    assert table_lines(LAYOUT, [("x" * 50, "1", "–", "–", "yes")], 30)[1] == [["x" * 50, "    yes", "    n 1"]]


def test_the_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "123")
    assert terminal_width() == 123
