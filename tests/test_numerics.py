"""Tests that compare floating-point numbers carry the marker ``numerics``, which .ci/run repeats with torch's plain CPU
kernels, and a tolerance that stands there as a number says on its line where it comes from."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
MODULES = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py"))
COMPARES = {"approx", "allclose", "isclose", "assert_allclose", "assert_close", "assert_near", "rounding"}
TOLERANCES = {"abs", "rel", "atol", "rtol"}


def name_of(node: ast.expr) -> str:
    return getattr(node, "id", getattr(node, "attr", ""))


def compared(source: str) -> dict[str, bool]:
    """The tests of a module that compare floating-point numbers, themselves or by its functions; whether each is
    marked."""
    tree = ast.parse(source)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    used = {n: {name_of(c) for c in ast.walk(node) if isinstance(c, ast.Name | ast.Attribute)}
            for n, node in functions.items()}  # fmt: skip
    found = {n for n, names in used.items() if names & COMPARES}
    while more := {n for n, names in used.items() if names & found} - found:
        found |= more
    named = {name_of(t): ast.dump(a.value) for a in tree.body if isinstance(a, ast.Assign) for t in a.targets}
    named |= {n: ast.dump(node) for n, node in functions.items()}
    whole = "numerics" in named.get("pytestmark", "")
    return {
        n: whole or any("numerics" in ast.dump(d) + named.get(name_of(d), "") for d in functions[n].decorator_list)
        for n in found
        if n.startswith("test_")
    }


def bare_tolerances(source: str) -> list[int]:
    """Lines of calls whose tolerance is a number, with no comment beside it or on the line before."""
    lines = source.split("\n")
    return [
        word.value.lineno
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and name_of(call.func) in COMPARES
        for word in call.keywords
        if word.arg in TOLERANCES and isinstance(word.value, ast.Constant) and word.value.value
        if not any("#" in line for line in lines[call.lineno - 2 : call.end_lineno])
    ]


@pytest.mark.parametrize("module", MODULES)
def test_what_compares_numbers_is_marked_and_derives_its_tolerance(module: str) -> None:
    source = (TESTS / module).read_text(encoding="utf-8")
    assert [name for name, marked in compared(source).items() if not marked] == [], "mark with pytest.mark.numerics"
    assert bare_tolerances(source) == [], "derive it (tests/tolerances.py), or say beside it where it comes from"


def test_the_rules_find_what_they_look_for() -> None:
    source = """
pytestmark = []
def same(x): assert x == pytest.approx(1, abs=1e-5)
def test_a(): same(2)
@pytest.mark.numerics
def test_b(): torch.allclose(x, y, atol=1e-3)  # a millimetre
def test_c(): assert 1 == 1
"""
    assert compared(source) == {"test_a": False, "test_b": True}
    assert bare_tolerances(source) == [3]
