"""The door: what `import tuneshift` gives, what it costs, and that docs, suites and examples use nothing else."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import tuneshift

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(tuneshift.__file__).parent
LISTED = (
    "Finding", "Outcome", "View", "NotApplicable", "Arm", "Statistic", "paired", "followed_or_not", "following",
    "win_rate", "ranked", "ranking_survives", "paired_difference", "two_sample_difference", "equivalence",
    "jackknife_statistic", "responses", "clusters_of", "ModelRef", "ModelPair", "load_pairs", "load_prompts",
    "run", "Run", "load_run", "attribute", "Attribution", "write_report", "compare_runs", "Baselines", "Store",
    "Evidence", "fingerprint", "TuneshiftError", "UsageError", "__version__",
)  # fmt: skip
"""Names that were promised; there may be more."""

INSIDE = {"docs/extending.md", "docs/annotators.md"}
"""Pages on changes of tuneshift itself, which say that they use private modules."""


def loaded(code: str) -> list[str]:
    """Heavy modules that a fresh interpreter has loaded after the code."""
    heavy = "('numpy', 'torch', 'transformers', 'scipy', 'pytest', 'jinja2')"
    code = f"import sys; {code}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return list(ast.literal_eval(done.stdout))


def test_the_import_loads_nothing():
    assert loaded("import tuneshift; dir(tuneshift); tuneshift.__version__") == []
    assert "numpy" in loaded("import tuneshift; tuneshift.Arm")  # so that this would be seen


def test_scripts_and_findings_load_no_torch_before_they_measure():
    assert "torch" not in loaded("from tuneshift import Finding, paired, run, load_run, compare_runs, write_report")


@pytest.mark.parametrize("name", tuneshift.__all__)
def test_every_name_is_there(name):
    value = getattr(tuneshift, name)
    if name == "__version__":
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", value)
        return
    assert value is getattr(import_module(tuneshift._MODULES[name], "tuneshift"), name)
    assert value.__name__ == name
    assert value.__doc__


def test_the_names_are_those_that_were_promised_and_dir_knows_them():
    assert set(LISTED) <= set(tuneshift.__all__)
    assert len(tuneshift.__all__) == len(set(tuneshift.__all__))
    assert set(tuneshift.__all__) <= set(dir(tuneshift))


def test_type_checkers_see_the_same_names():
    """The imports under TYPE_CHECKING, the map of modules and ``__all__`` say the same."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    imports = {
        alias.name: "." * node.level + (node.module or "")
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imports == tuneshift._MODULES
    assert set(tuneshift.__all__) == {*imports, "__version__"}


def test_no_module_of_the_package_hides_a_name():
    """Importing ``tuneshift.x`` sets the attribute ``x`` of the package, which would then be the module."""
    inside = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert inside & set(tuneshift.__all__) == set()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tuneshift' has no attribute 'nothing'"):
        _ = tuneshift.nothing
    with pytest.raises(ImportError, match="nothing"):
        exec("from tuneshift import nothing")


def test_everything_can_be_imported_at_once():
    here: dict[str, object] = {}
    exec("from tuneshift import *", here)
    assert set(tuneshift.__all__) <= set(here)


def test_the_docs_describe_each_name_once_and_no_other():
    pages = (ROOT / "docs" / "api").glob("*.md")
    described = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines() if line[:3] == ":::"]
    expected = [f"::: tuneshift.{name}" for name in tuneshift.__all__ if name != "__version__"]
    assert sorted(described) == sorted(expected)


def imported_from_inside(code: str) -> list[str]:
    """Modules of tuneshift other than the package itself that the code imports."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tuneshift."):
            found.append(str(node.module))
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("tuneshift.")]
    return found


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "suites").glob("*.py")), *sorted((ROOT / "docs" / "examples").glob("*.py"))],
    ids=lambda path: path.name,
)  # fmt: skip
def test_suites_and_examples_import_from_the_package_alone(path):
    assert imported_from_inside(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_the_docs_import_from_the_package_alone(path):
    if path.relative_to(ROOT).as_posix() in INSIDE:
        return
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"(?:from|import) tuneshift\.\w+", text) == []
    # ``tuneshift.name`` in code is a public name, the suites' package or a table of pyproject.toml.
    fenced = re.findall(r"^```python\n.*?^```$", text, flags=re.MULTILINE | re.DOTALL)
    for code in [*fenced, *re.findall(r"`[^`\n]+`|^    .*$", text, flags=re.MULTILINE)]:
        named = re.findall(r"(?<![\w.\[/-])tuneshift\.([a-z_A-Z]\w*)(?=[^\w/])", code)
        assert set(named) <= {*tuneshift.__all__, "suites"}, code


def test_the_check_of_suites_sees_an_import_from_inside():
    assert imported_from_inside("from tuneshift.claims.finding import Finding\nimport tuneshift.session.run") == [
        "tuneshift.claims.finding",
        "tuneshift.session.run",
    ]
    assert imported_from_inside("from tuneshift import Finding") == []
