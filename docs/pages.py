"""Rewrite the parts of these pages that come from the code: facts of findings, the public API, every message of ours.

    python docs/pages.py            write them
    python docs/pages.py --check    exit 1 where a page is out of date

What stands between ``<!-- from the code -->`` and ``<!-- end -->`` is made here; the rest of a page is written by hand.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import sys
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tuneshift
from tuneshift import Finding, errors
from tuneshift.claims.catalogue import findings
from tuneshift.session.scripting import RunSettings

DOCS = Path(__file__).parent
PACKAGE = Path(tuneshift.__file__).parent
BEGIN, END = "<!-- from the code -->\n", "<!-- end -->\n"
API = [DOCS / "api" / f"{name}.md" for name in ("findings", "shipped", "scripting")]
"""Pages that describe the public names."""
SIGNATURE = 100
"""Characters that a signature may have on one line."""
GAP = "…"
"""Stands for what a message fills in."""

PASSED_ON = {"… on …: …"}
"""Frames around another message that have words, but none that help to look them up."""

DIRECTIONS = {
    "greater": "an effect above {bound:g}",
    "less": "an effect below -{sesoi:g}",
    "equivalent": "an effect between -{sesoi:g} and {sesoi:g}",
}

SECTIONS = {
    "recorded": (
        "store/recorded", "store/evidence_file", "session/replay", "session/publishing", "commands/sharing"
    ),
    "pairs": ("pairs.py", "config.py", "parse.py", "session/", "commands/common.py"),
    "checkpoints": ("checkpoints/", "doctor/"),
    "prompts": ("prompts/",),
    "expectations": ("claims/", "plugin.py"),
    "gate": ("gate/", "statistics/sequential.py", "commands/gate.py"),
    "store": ("store/",),
    "measures": ("measures/", "engine/"),
    "words": ("words/", "readings.py", "annotators/spelling.py", "annotators/embedding.py"),
    "judges": ("annotators/", "judges/", "chat/"),
    "records": ("run_record", "statistics/intervals.py", "report/", "resources.py", "commands/outputs.py"),
    "tune": ("tuning/", "commands/tune.py"),
    "commands": ("commands/", "embedded/"),
}  # fmt: skip
"""Section of the page on messages -> beginnings of the modules whose messages it lists; NotApplicable has its own."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One raise site: module, line, error type, and the literal words with `GAP` for the rest."""

    module: str
    line: int
    kind: str
    text: str

    @property
    def wraps(self) -> bool:
        """Whether there are no words of its own: the message of another error, or of a `fail`, passes through."""
        return self.text in PASSED_ON or not any(c.isalpha() for c in self.text)

    @property
    def section(self) -> str:
        """Key of its section on the page."""
        if self.kind == "NotApplicable":
            return "not-applicable"
        return next((k for k, starts in SECTIONS.items() if self.module.startswith(starts)), "other")


def family() -> set[str]:
    """Names of the error classes that a user can meet: TuneshiftError, everything below it, and NotApplicable."""
    names = {
        name for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.TuneshiftError)
    } | {"NotApplicable"}  # fmt: skip
    classes = [node for path in PACKAGE.rglob("*.py") for node in ast.walk(_tree(path)) if _is_class(node)]
    while more := {c.name for c in classes if c.name not in names and {ast.unparse(b) for b in c.bases} & names}:
        names |= more
    return names


def messages() -> list[Message]:
    """Every raise of the family, every one that is made and kept, and every call of a ``fail`` that raises one, in
    order of module and line."""
    kinds = family()
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module, tree = path.relative_to(PACKAGE).as_posix(), _tree(path)
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
            for node in ast.walk(function):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                    kind, said = ast.unparse(node.exc.func), node.exc.args[-1]
                    if kind not in kinds:
                        continue
                elif isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in kinds:
                    kind, said = ast.unparse(node.func), node.args[-1]
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fail":
                    kind, said = "fail", node.args[0]
                else:
                    continue
                found += [
                    Message(module=module, line=node.lineno, kind=kind, text=text)
                    for text in _texts(said, function, tree)
                ]
    return sorted(set(found), key=lambda m: (m.module, m.line, m.text))


def _texts(node: ast.expr, function: ast.FunctionDef, tree: ast.Module) -> Iterator[str]:
    """The literal words of a message: of an expression, of a variable's values, or of what a function returns."""
    if isinstance(node, ast.Name):
        values = [
            made.value for made in ast.walk(function)
            if (isinstance(made, ast.Assign) and any(ast.unparse(t) == node.id for t in made.targets))
            or (isinstance(made, ast.NamedExpr) and made.target.id == node.id)
        ]  # fmt: skip
        for value in values:
            yield from _texts(value, function, tree)
        if not values:
            yield GAP
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func).removeprefix("self.")
        called = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name]
        returned = [n.value for n in ast.walk(called[0]) if isinstance(n, ast.Return)] if called else []
        texts = [_literal(value) for value in returned if isinstance(value, ast.Constant | ast.JoinedStr | ast.BinOp)]
        yield from (text for text in texts if text) if texts else [GAP]
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body, function, tree)
        yield from _texts(node.orelse, function, tree)
    else:
        yield _literal(node)


def _literal(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(part) if isinstance(part, ast.Constant) else GAP for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _literal(node.left) + _literal(node.right)
    return GAP


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _is_class(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef)


def facts(finding: Finding) -> str:
    """A finding's constant as Markdown."""
    needs = ", ".join(f"{role} {need}" for role, need in finding.needs)
    rows = (
        ("id", f"`{finding.id}`"),
        ("claim", finding.claim),
        ("source", finding.source),
        ("reproduced by", f"{_decides(finding)} ({finding.unit})"),
        ("why that size", finding.sesoi_reason),
        ("tested how", finding.how),
        ("counted over", finding.items),
        ("evidence", needs),
        ("departs from the paper", finding.deviations or "nowhere that we know of"),
    )
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {_cell(text)} |" for name, text in rows)]) + "\n"


def _decides(finding: Finding) -> str:
    return DIRECTIONS[finding.direction].format(sesoi=finding.sesoi, bound=finding.bound)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def overview() -> str:
    """Table of every finding with a link to its page."""
    rows = [f"| [`{f.id}`]({f.id}.md) | {_cell(f.claim)} | {f.items} |" for f in findings()]
    return "\n".join(["| finding | claim | counted over |", "| --- | --- | --- |", *rows]) + "\n"


def entry(text: str) -> str:
    """A message as it stands on the page: one line of code, with the number of gaps that it has."""
    words = " ".join(text.split())
    # Markdown takes the space off again; without it a backtick of the message would join those around it.
    return f"`` {words} ``" if words.startswith("`") or words.endswith("`") else f"``{words}``"


def message_list(found: list[Message], section: str, hints: dict[str, str]) -> str:
    """The messages of a section, each once, with the advice that was written beside it."""
    texts = sorted({entry(m.text) for m in found if m.section == section and not m.wraps}, key=str.casefold)
    return "".join(f"- {text}{hints.get(text, '')}\n" for text in texts)


def documented(page: Path) -> list[str]:
    """The public names that a page of docs/api describes, in its order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("::: tuneshift.") for line in lines if line.startswith("::: tuneshift.")]


def signatures() -> str:
    """The public names with their types, as a stub file would have them."""
    parts = []
    for page in API:
        title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        stubs = [stub(getattr(tuneshift, name)) for name in documented(page)]
        if "run" in documented(page):
            stubs.insert(0, stub(RunSettings))
        parts.append(f"## {title}\n\n``` {{ .python }}\n{chr(10).join(stubs)}\n```\n")
    return "\n".join(parts)


def stub(value: Any) -> str:
    """A function's signature, or a class with its fields and public methods."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    if isinstance(node, ast.FunctionDef):
        return _signature(node)
    assert isinstance(node, ast.ClassDef)
    bases = ", ".join(map(ast.unparse, node.bases))
    body = []
    if dataclasses.is_dataclass(value):
        made = ((f, f.default is f.default_factory is dataclasses.MISSING) for f in dataclasses.fields(value))
        body = [f"{f.name}: {f.type}{'' if bare else ' = ...'}" for f, bare in made if not f.name.startswith("_")]
    for member in node.body:
        if isinstance(member, ast.Assign) or (isinstance(member, ast.AnnAssign) and typing.is_typeddict(value)):
            body.append(ast.unparse(member))
        elif isinstance(member, ast.FunctionDef) and (not member.name.startswith("_") or member.name == "__init__"):
            body += [*(f"@{ast.unparse(decorator)}" for decorator in member.decorator_list), _signature(member)]
    head = f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    return "\n".join([head, textwrap.indent("\n".join(body), "    ")]) if body else f"{head} ..."


def _signature(node: ast.FunctionDef) -> str:
    """``def name(parameters) -> type: ...``, a parameter a line where it is long."""
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain) - len(given.defaults)) + list(given.defaults)
    parts = [_parameter(a, d) for a, d in zip(plain, defaults, strict=True)]
    if given.kwonlyargs:
        parts.append("*")
        parts += [_parameter(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    if given.kwarg:
        parts.append("**" + _parameter(given.kwarg, None))
    end = f") -> {ast.unparse(node.returns) if node.returns else 'None'}: ..."
    whole = f"def {node.name}({', '.join(parts)}{end}"
    if len(whole) <= SIGNATURE:
        return whole
    return "\n".join([f"def {node.name}(", *(f"    {part}," for part in parts), end])


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    typed = f"{argument.arg}: {ast.unparse(argument.annotation)}" if argument.annotation else argument.arg
    return typed if default is None else f"{typed} = {ast.unparse(default)}"


def rewritten(path: Path) -> str:
    """A page with its made parts made anew."""
    text = path.read_text(encoding="utf-8")
    if path.parent.name == "api":
        return _replaced(text, [signatures()])
    if path.parent.name == "findings":
        if path.stem == "index":
            return _replaced(text, [overview()])
        finding = {finding.id: finding for finding in findings()}[path.stem]
        # The title stands before the mark: mkdocs takes a page's name from its first line.
        return _replaced(f"# {finding.title}\n\n{BEGIN}{text.partition(BEGIN)[2]}", [facts(finding)])
    hints = {}
    for line in text.splitlines():
        if line.startswith("- ``"):
            said, _, hint = line[4:].partition("``")
            hints[f"``{said}``"] = hint
    found, parts = messages(), text.split("<!-- section ")[1:]
    return _replaced(text, [message_list(found, part.split(" -->")[0], hints) for part in parts])


def _replaced(text: str, made: list[str]) -> str:
    before, *rest = text.split(BEGIN)
    if len(rest) != len(made):
        raise SystemExit(f"{len(rest)} marked parts where {len(made)} are made")
    return before + "".join(BEGIN + part + END + after.split(END, 1)[1] for part, after in zip(made, rest, strict=True))


def main() -> int:
    """Write or check every page."""
    parser = argparse.ArgumentParser(description="Rewrite the parts of the pages that come from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is out of date")
    arguments = parser.parse_args()
    stale = 0
    for path in [*sorted((DOCS / "findings").glob("*.md")), DOCS / "api" / "index.md", DOCS / "troubleshooting.md"]:
        made = rewritten(path)
        if made != path.read_text(encoding="utf-8"):
            stale += 1
            print(f"{'out of date' if arguments.check else 'rewritten'}: {path.relative_to(DOCS)}")
            if not arguments.check:
                path.write_text(made, encoding="utf-8")
    return int(stale > 0 and arguments.check)


if __name__ == "__main__":
    sys.exit(main())
