"""Rewrite CONTRIBUTING's table of rooms: each package of plugins/tuneshift with its docstring's first line.

python docs/rooms.py            write it
python docs/rooms.py --check    exit 1 where it is out of date
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "plugins" / "tuneshift"
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- rooms, from the code -->\n", "<!-- end of rooms -->\n"


def first_line(room: Path) -> str:
    """First line of a package's docstring. Stops where there is none: a room that says nothing cannot be found."""
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    if not docstring:
        raise SystemExit(
            f"{room.relative_to(ROOT)}/__init__.py has no docstring; say in its first line what is in there"
        )
    return docstring.splitlines()[0]


def table(package: Path) -> str:
    """Markdown rows of the package's rooms and the rooms within them, by name."""
    rooms = sorted(path.parent for path in package.rglob("*/__init__.py"))
    rows = [f"| `{room.relative_to(package).as_posix()}/` | {first_line(room)} |" for room in rooms]
    return "\n".join(["| room | what is in there |", "| --- | --- |", *rows, ""])


def rewritten(page: str, package: Path) -> str:
    """The page with the table as the package has it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the page has no table between {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + table(package) + END + after


def main() -> int:
    """Write or check the table."""
    parser = argparse.ArgumentParser(description="Rewrite CONTRIBUTING's table of rooms.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the table is out of date")
    arguments = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    made = rewritten(page, PACKAGE)
    if made == page:
        return 0
    print(f"{'out of date: python docs/rooms.py writes' if arguments.check else 'rewritten:'} {PAGE.name}'s rooms")
    if not arguments.check:
        PAGE.write_text(made, encoding="utf-8")
    return int(arguments.check)


if __name__ == "__main__":
    sys.exit(main())
