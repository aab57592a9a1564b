"""README's sample output is what a run on the embedded pair says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """docs/sample.py, which lies outside the package."""
    spec = importlib.util.spec_from_file_location("sample", ROOT / "docs" / "sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.nightly  # .ci/run checks it on the store of its cold run
def test_readmes_sample_is_what_a_run_says(script, tmp_path, monkeypatch):
    """Two minutes on an empty store: both models are measured."""
    monkeypatch.setenv("TUNESHIFT_STORE", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    said = script.sample(script.output())
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert script.differences(script.held(page), said) == [], "python docs/sample.py writes it"


ROW = "    wu2023.prompt_middle_recovers  micro  166  0.462  0.706  +0.244 [+0.215, +0.272]  reproduced"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (ROW.replace("micro  166", "micro    166"), True),
        (ROW.replace("0.462", "0.463"), True),
        (ROW.replace("0.462", "0.48"), False),
        (ROW.replace("+0.215", "-0.215"), False),
        (ROW.replace("reproduced", "contradicted"), False),
        (ROW.replace("166", "3"), False),
        (f"{ROW}\n{ROW}", False),
    ],
)
def test_a_sample_that_says_otherwise_is_told(script, other, same):
    assert (script.differences(f"\n{ROW}\n", f"\n{other}\n") == []) is same


def test_the_time_that_a_run_took_is_no_difference(script):
    one, other = "= 10 passed, 8 xfailed in 5.60s =", "=== 10 passed, 8 xfailed in 107.06s (0:01:47) ==="
    assert script.differences(one, other) == []
    assert script.differences(one, other.replace("8 x", "7 x")) != []


def test_a_row_that_is_gone_stops_the_script(script):
    said = "= tuneshift verdicts =\nfinding  on\n" + "".join(f"{name}  micro\n" for name in script.SHOWN[1:])
    with pytest.raises(SystemExit, match=script.SHOWN[0]):
        script.sample(said)
