"""The pages against the code: a page for each finding, an entry for each message, and a pair of one's own."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from tuneshift.claims.catalogue import findings

ROOT = Path(__file__).resolve().parents[1]


def load(name: str):
    """A script of docs/ as a module."""
    path = ROOT / "docs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


pages = load("pages")
FINDINGS = ROOT / "docs" / "findings"
API = ROOT / "docs" / "api" / "index.md"
TROUBLE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ENTRIES = [line[2:] for line in TROUBLE.split("\n") if line.startswith("- ``")]


def test_every_finding_has_a_page_and_every_page_a_finding():
    assert {path.stem for path in FINDINGS.glob("*.md")} == {"index", *(finding.id for finding in findings())}


@pytest.mark.parametrize("finding", findings(), ids=lambda finding: finding.id)
def test_a_findings_page_says_what_its_constant_says(finding):
    text = (FINDINGS / f"{finding.id}.md").read_text(encoding="utf-8")
    made = text.partition(pages.BEGIN)[2].partition(pages.END)[0]
    for said in (f"`{finding.id}`", finding.claim, finding.source, f"{finding.sesoi:g} (", finding.sesoi_reason):
        assert said in made, f"run python docs/pages.py: the page lacks {said!r}"
    assert text.startswith(f"# {finding.title}\n")


@pytest.mark.parametrize("finding", findings(), ids=lambda finding: finding.id)
def test_a_findings_page_says_how_to_read_it_and_what_moves_it(finding):
    text = (FINDINGS / f"{finding.id}.md").read_text(encoding="utf-8")
    for heading in ("## How to read it\n\n", "## What moves it\n\n"):
        section = text.partition(heading)[2].partition("\n## ")[0]
        assert len(section.split()) > 20, f"{heading.strip()} says nothing"


@pytest.mark.parametrize("path", [*sorted(FINDINGS.glob("*.md")), API, ROOT / "docs" / "troubleshooting.md"],
                         ids=lambda path: f"{path.parent.name}-{path.stem}")  # fmt: skip
def test_what_comes_from_the_code_is_up_to_date(path):
    assert pages.rewritten(path) == path.read_text(encoding="utf-8"), "run python docs/pages.py"


@pytest.mark.parametrize("message", pages.messages(), ids=lambda m: f"{m.module}:{m.line}")
def test_every_message_is_on_the_page(message):
    """Those that only pass another message on have no words to be looked up by."""
    if message.wraps:
        return
    assert any(entry.startswith(pages.entry(message.text)) for entry in ENTRIES), (
        f"{message.text!r} of {message.module} is not in docs/troubleshooting.md; run python docs/pages.py"
    )


def test_the_page_has_no_message_that_the_code_has_lost():
    known = {pages.entry(message.text) for message in pages.messages()}
    assert [entry for entry in ENTRIES if not any(entry.startswith(text) for text in known)] == []


def test_messages_are_found_however_they_are_raised(tmp_path, monkeypatch):
    """Directly, through ``fail``, a variable, a function that words it, and a subclass of the family."""
    (tmp_path / "made.py").write_text(
        "class Own(StoreError): pass\n"
        "def words(path):\n"
        "    if path:\n"
        "        return f'{path} is the first'\n"
        "    return 'the second'\n"
        "def f(self, x):\n"
        "    self.fail(f'bad {x}')\n"
        "    reason = 'by a variable'\n"
        "    raise PairError(reason)\n"
        "    raise Own(words(x))\n"
        "    raise UsageError(f'a {x}' + ' b')\n"
        "    raise ValueError('not of the family')\n"
    )
    monkeypatch.setattr(pages, "PACKAGE", tmp_path)
    assert [(m.kind, m.text) for m in pages.messages()] == [
        ("fail", "bad …"),
        ("PairError", "by a variable"),
        ("Own", "the second"),
        ("Own", "… is the first"),
        ("UsageError", "a … b"),
    ]


def test_a_stale_page_fails_the_check(tmp_path, monkeypatch, capsys):
    (tmp_path / "findings").mkdir()
    page = tmp_path / "findings" / f"{findings()[0].id}.md"
    page.write_text(f"{pages.BEGIN}{pages.END}\nby hand\n")
    (tmp_path / "troubleshooting.md").write_text("nothing\n")
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "index.md").write_text(f"{pages.BEGIN}{pages.END}")
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["pages.py", "--check"])
    assert pages.main() == 1
    assert "out of date" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["pages.py"])
    assert pages.main() == 0
    assert findings()[0].claim in page.read_text()
    assert page.read_text().endswith("\nby hand\n")


def test_advice_written_beside_a_message_is_kept(tmp_path):
    page = tmp_path / "troubleshooting.md"
    page.write_text(f"<!-- section store -->\n{pages.BEGIN}{pages.END}")
    once = pages.rewritten(page)
    page.write_text(once.replace("- ``not a JSON object``\n", "- ``not a JSON object`` Copy it anew.\n"))
    assert "``not a JSON object`` Copy it anew." in pages.rewritten(page)


@pytest.fixture
def own_pair(monkeypatch, tmp_path):
    """``own_pair(*options)`` runs the worked example in this folder; its exit code."""
    module = load("examples/own_pair")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESHIFT_STORE", str(tmp_path / "store"))

    def run(*options: object) -> int:
        monkeypatch.setattr(sys, "argv", ["own_pair.py", *map(str, options)])
        return module.main()

    return run


@pytest.fixture
def few_prompts(tmp_path):
    """Twelve of the embedded family's held-out prompts, each of another task type."""
    lines = (ROOT / "fixtures" / "prompts" / "micro-heldout.jsonl").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join(lines[::29][:12]) + "\n")
    return path


EMBEDDED = ("--base", "embedded:micro/base", "--tuned", "embedded:micro/instruct")


def test_the_worked_example_decides_on_the_embedded_pair(own_pair, few_prompts, tmp_path, capsys):
    code = own_pair(*EMBEDDED, "--finding", "hewitt2024.base_ranks_responses", "--prompts", few_prompts, "--out", "out")
    said = capsys.readouterr().out
    (claim,) = json.loads((tmp_path / "out" / "run.json").read_text())["claims"]
    assert claim["finding"] == "hewitt2024.base_ranks_responses"
    assert f"hewitt2024.base_ranks_responses on base-instruct: {claim['verdict']}" in said
    assert f"effect {claim['effect']:.3f}" in said
    assert "n = 12" in said
    assert code == (0 if claim["verdict"] == "reproduced" else 1)
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.nightly
def test_the_worked_example_says_what_its_page_shows(own_pair, capsys):
    """Without options, on the embedded pair and all its prompts."""
    page = (ROOT / "docs" / "own-pair.md").read_text(encoding="utf-8")
    assert own_pair() == 0
    shown = "".join(f"    {line}\n" for line in capsys.readouterr().out.splitlines())
    assert shown in page


def test_the_worked_example_tells_what_was_wrong_and_exits_with_2(own_pair, tmp_path, capsys):
    assert own_pair("--finding", "mine") == 2
    assert "no shipped finding is called so; known: damage.references" in capsys.readouterr().err
    assert own_pair("--base", "A") == 2
    assert "base is given without tuned" in capsys.readouterr().err
    assert own_pair("--base", "nowhere/a", "--tuned", tmp_path / "b") == 2
    assert "tuned: " in capsys.readouterr().err


def test_the_list_of_signatures_has_what_a_reader_needs():
    """Types of functions, fields with their defaults left open, methods, and nothing private."""
    text = API.read_text(encoding="utf-8")
    for line in (
        "def instruction_score(attribution: Attribution) -> float | None: ...",
        "    findings: Asked | Sequence[Asked] | None = None,",
        "    dtype: Literal['float32', 'bfloat16', 'float16', 'float64']",
        "    deviations: str = ...",
        "    @property\n    def values(self) -> Rows: ...",
        "    def to_pandas(self) -> Any: ...",
        "class UsageError(TuneshiftError, ValueError): ...",
    ):
        assert f"\n{line}\n" in text
    made = text.partition(pages.BEGIN)[2]
    assert not [
        line for line in made.splitlines() if line.strip().startswith(("def _", "_")) and "__init__" not in line
    ]


def test_a_stub_has_keyword_only_defaults_and_wraps(monkeypatch):
    monkeypatch.setattr(pages, "SIGNATURE", 40)

    def measured(a: int, /, b=1, *, c: str | None = None, **rest: float) -> list[int]:
        """Not shown."""

    assert pages.stub(measured) == (
        "def measured(\n    a: int,\n    b = 1,\n    *,\n    c: str | None = None,\n    **rest: float,\n"
        ") -> list[int]: ..."
    )
