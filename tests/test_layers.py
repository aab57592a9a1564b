"""Imports point downward only, and the plugin's start-up stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tuneshift

PACKAGE = Path(tuneshift.__file__).parent

LAYERS = (
    {"errors", "files", "records", "resources"},
    {
        "prompts",
        "tokens",
        "verifiers",
        "checkpoint_files",
        "architectures",
        "clustered",
        "intervals",
        "memory",
        "model_cache",
        "permutation",
        "parts",
        "power",
        "rules",
        "sequential",
        "shares",
        "store_files",
        "store_format",
    },
    {"pairs", "weights", "inspection", "published", "store_session", "store_upkeep", "word_vectors", "word_tokens"},
    {"vocabulary", "chat_endpoint", "subspaces", "annotators_spelling"},
    {
        "checkpoints",
        "store",
        "multiplicity",
        "statistics",
        "measures",
        "adapters",
        "annotators",
        "annotators_embedding",
        "annotators_prompted",
        "judges",
        "judges_prompted",
        "judges_ifeval",
        "tuning_data",
    },
    {"expectations", "expectations_update"},
    {
        "effect_change",
        "planning",
        "plan",
        "judge",
        "views",
        "agreement",
        "tuning",
        "tuning_card",
        "tuning_recipe",
        "tuning_trainer",
    },
    {
        "engine",
        "failures",
        "steps",
        "embedded",
        "recording",
        "verb_relations",
        "concept_shift",
        "concept_shares",
        "concept_figures",
        "ranking",
        "following",
        "following_style",
        "following_figures",
        "single_task",
    },
    {"noise_floor", "requests"},
    {
        "comparison",
        "display",
        "figures",
        "figure_grid",
        "figure_values",
        "outputs",
        "doctor",
        "doctor_checkpoints",
        "baseline_views",
        "claim_views",
        "prompt_views",
        "value_columns",
        "conclusion",
        "pair_matrix",
        "merging",
    },
    {"run", "report", "deciding", "summary_text", "matching", "gate", "baselines", "shards"},
    {"options", "findings", "gate_text", "gating", "console", "scheduling", "commands"},
    {"plugin", "cli"},
)
"""From the bottom up. A module imports from lower layers and from its own."""

FREE_OF_TORCH = (
    "errors", "records", "resources", "prompts", "tokens", "pairs", "published", "verifiers", "weights", "inspection",
    "store", "statistics", "judge", "recording", "plan", "engine", "comparison", "run", "report", "options",
    "console", "plugin", "cli", "views", "vocabulary", "word_vectors", "word_tokens", "subspaces", "verb_relations",
    "concept_shift", "concept_shares", "concept_figures", "annotators", "agreement", "chat_endpoint", "judges",
    "following", "following_style", "following_figures", "ranking", "rules", "outputs", "doctor",
    "doctor_checkpoints", "clustered", "effect_change", "multiplicity", "permutation", "planning", "power",
    "sequential", "shares", "intervals", "deciding", "merging", "summary_text",
    "noise_floor", "expectations", "expectations_update", "matching", "gate", "baselines", "shards", "gating",
    "gate_text", "requests", "steps",
)  # fmt: skip


def modules() -> list[Path]:
    return [p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py"]


def room(path: Path) -> str:
    inner = path.relative_to(PACKAGE)
    return inner.parts[0] if len(inner.parts) > 1 else inner.stem


def height(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def imported_rooms(path: Path) -> set[str]:
    """Rooms of tuneshift that a module imports at run time, wherever in the file."""
    inner = path.relative_to(PACKAGE).parent.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = [*inner[: len(inner) - node.level + 1], *(node.module or "").split(".")]
                base = [part for part in base if part]
                found |= {base[0]} if base else {alias.name for alias in node.names}
            elif (node.module or "").startswith("tuneshift."):
                found.add(node.module.split(".")[1])
            elif node.module == "tuneshift":
                found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tuneshift.")}
    return found - {"__init__"}


def test_every_module_has_its_layer():
    assert {room(p) for p in modules()} == set().union(*LAYERS)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    upward = {name for name in imported_rooms(path) if height(name) > height(room(path))}
    assert not upward, f"{room(path)} imports {upward}, which lie above it"


def test_only_the_plugin_imports_pytest():
    def imports_pytest(path: Path) -> bool:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = {
            id(n)
            for t in ast.walk(tree)
            if isinstance(t, ast.If) and ast.unparse(t.test) == "TYPE_CHECKING"
            for n in ast.walk(t)
        }
        return any(
            isinstance(n, ast.Import) and any(a.name == "pytest" for a in n.names) and id(n) not in guarded
            for n in ast.walk(tree)
        )

    assert [p.stem for p in modules() if imports_pytest(p)] == ["plugin"]


@pytest.mark.parametrize("name", FREE_OF_TORCH)
def test_importing_it_loads_nothing_heavy(name):
    code = (
        f"import sys, tuneshift.{name}; "
        "print([m for m in ('torch', 'transformers', 'scipy.stats', 'pyarrow', 'jinja2', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = ast.literal_eval(done.stdout)
    allowed = {"jinja2"} if name in ("report", "summary_text") else set()
    assert set(heavy) <= allowed
