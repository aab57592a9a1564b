"""CONTRIBUTING's table of rooms, each package of plugins/tuneshift with its docstring's first line, and the imports.

python docs/rooms.py            write both
python docs/rooms.py --check    exit 1 where the table is out of date (tests let the imports' numbers drift a little)
python docs/rooms.py --imports  sizes of modules, arrows between rooms, circles
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "plugins" / "tuneshift"
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- rooms, from the code -->\n", "<!-- end of rooms -->\n"
IMPORTS_BEGIN, IMPORTS_END = "<!-- imports, from the code -->\n", "<!-- end of imports -->\n"


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
    return _between(page, BEGIN, table(package), END)


def with_imports(page: str, package: Path) -> str:
    """The page with the picture of imports as the package has it, below the command that prints it."""
    lines = ["$ python docs/rooms.py --imports", *picture(package).splitlines()]
    shown = "\n".join(["", *(f"    {line}" for line in lines), "", ""])
    return _between(page, IMPORTS_BEGIN, shown, IMPORTS_END)


def _between(page: str, begin: str, text: str, end: str) -> str:
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"the page has nothing between {begin.strip()} and {end.strip()}")
    return before + begin + text + end + after


Graph = Mapping[str, Set[str]]
"""Name -> names that it imports."""


def modules(package: Path) -> dict[str, Path]:
    """Files of the package but its own ``__init__``, by dotted name below the package; a room's is the room's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts)
        if name != "__init__":
            found[name.removesuffix(".__init__")] = path
    return found


def room(name: str) -> str:
    """The room that a module lies in; a module at the root is a room of its own."""
    return name.partition(".")[0]


def imported(path: Path, package: Path, names: Set[str]) -> set[str]:
    """Those of the package's modules that a module imports at run time, wherever in the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
        for statement in test.body
        for node in ast.walk(statement)
    }
    folder = path.relative_to(package).parent.parts
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = ".".join([*folder[: len(folder) - node.level + 1], *filter(None, [node.module])])
            elif node.module == "tuneshift" or (node.module or "").startswith("tuneshift."):
                base = (node.module or "").removeprefix("tuneshift").removeprefix(".")
            else:
                continue
            for alias in node.names:
                inner = f"{base}.{alias.name}" if base else alias.name
                found.add(inner if inner in names else base)
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("tuneshift.") for a in node.names if a.name.startswith("tuneshift.")}
    return found & names


def import_graph(package: Path) -> dict[str, set[str]]:
    """Every module of the package with those that it imports."""
    files = modules(package)
    return {name: imported(path, package, files.keys()) - {name} for name, path in files.items()}


def between_rooms(graph: Graph) -> dict[str, set[str]]:
    """Every room with the other rooms that its modules import from."""
    found: dict[str, set[str]] = {room(name): set() for name in graph}
    for name, others in graph.items():
        found[room(name)] |= {room(other) for other in others} - {room(name)}
    return found


def circles(graph: Graph) -> Iterator[list[str]]:
    """Every name that is reached from itself, with the way."""
    for start in sorted(graph):
        ways, seen = [[start]], set()
        while ways:
            way = ways.pop()
            for other in graph.get(way[-1], ()):
                if other == start:
                    yield [*way, start]
                    ways = []
                    break
                if other not in seen:
                    seen.add(other)
                    ways.append([*way, other])


def picture(package: Path) -> str:
    """Sizes of the package's modules without the ``__init__`` files, arrows and circles, a line each."""
    graph = import_graph(package)
    rooms = between_rooms(graph)
    sizes = {
        path.relative_to(package).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in modules(package).values()
        if path.name != "__init__.py"
    }
    largest = max(sizes, key=lambda name: sizes[name])
    return "\n".join(
        [
            f"modules: {len(sizes)}",
            f"median lines of a module: {median(sizes.values()):.0f}",
            f"largest module: {sizes[largest]} lines, {largest}",
            f"arrows between modules: {sum(map(len, graph.values()))}",
            f"arrows between rooms: {sum(map(len, rooms.values()))}",
            f"modules in a circle: {len(list(circles(graph)))}",
            f"rooms in a circle: {len(list(circles(rooms)))}",
        ]
    )


def main() -> int:
    """Write or check the table."""
    parser = argparse.ArgumentParser(description="Rewrite CONTRIBUTING's rooms and imports.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the table is out of date")
    parser.add_argument("--imports", action="store_true", help="print sizes of modules, arrows between rooms, circles")
    arguments = parser.parse_args()
    if arguments.imports:
        print(picture(PACKAGE))
        return 0
    page = PAGE.read_text(encoding="utf-8")
    made = rewritten(page, PACKAGE)
    if not arguments.check:
        made = with_imports(made, PACKAGE)
    if made == page:
        return 0
    print(f"{'out of date: python docs/rooms.py writes' if arguments.check else 'rewritten:'} {PAGE.name}'s rooms")
    if not arguments.check:
        PAGE.write_text(made, encoding="utf-8")
    return int(arguments.check)


if __name__ == "__main__":
    sys.exit(main())
