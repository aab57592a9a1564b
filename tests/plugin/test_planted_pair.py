"""Controls through the whole run: a planted effect is found by every finding, a checkpoint against itself by none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tuneshift.resources import data_folder

INSTRUCTION = "Sort these words now please:"
CONTEXT = " ".join(f"word{i}" for i in range(30))
PIECES = ["▁Sort", "▁these", "▁words", "▁now", "▁please", ":", *(f"▁word{i}" for i in range(30))]
PROMPTS = 80
RESPONSE = 20


def levels(rng: np.random.Generator, instruction: float, middle: float) -> bytes:
    """Levels in which a share of the cells is 10: ``instruction`` of the instruction's, ``middle`` of the middle's."""
    chance = np.full(len(PIECES), 0.3)
    chance[:6] = instruction
    chance[8:28] = middle
    cells = rng.random((len(PIECES), RESPONSE)) < chance[:, None]
    return np.where(cells, 10, 0).astype(np.uint8).tobytes()


@pytest.fixture
def recorded(tmp_path: Path):
    """``recorded(name, instruction, middle)`` writes recorded evidence; an even prompt's instruction is heeded more."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow writes the recorded evidence")
    from pyarrow import parquet

    rows = [
        {
            "id": f"p{i:02}",
            "prompt": f"{INSTRUCTION} {CONTEXT}",
            "instruction_spans": [[0, len(INSTRUCTION)]],
            "rating": 3 if i % 2 == 0 else 1,
        }
        for i in range(PROMPTS)
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def write(name: str, instruction: float, middle: float, seed: int) -> Path:
        rng = np.random.default_rng(seed)
        table = {
            "id": [row["id"] for row in rows],
            "input_tokens": [PIECES] * PROMPTS,
            "output_tokens": [["▁x"] * RESPONSE] * PROMPTS,
            "levels": [levels(rng, instruction + (0.1 if i % 2 == 0 else -0.1), middle) for i in range(PROMPTS)],
        }
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pyarrow.table(table), path)
        return path

    return write


def verdicts(pytester: pytest.Pytester, tmp_path: Path, base: Path, tuned: Path) -> tuple[dict[str, str], int]:
    (tmp_path / "pairs.toml").write_text(
        f'[pairs.planted]\nbase = {{ evidence = "{base}" }}\ntuned = {{ evidence = "{tuned}" }}\n'
        'prompts = ["prompts.jsonl"]\nratings = "rating"\n'
    )
    result = pytester.runpytest(
        str(data_folder("suites") / "test_instruction_recognition.py"),
        "--pairs",
        tmp_path / "pairs.toml",
        "-p",
        "no:cacheprovider",
    )
    record = json.loads((pytester.path / "tuneshift-results" / "run.json").read_text())
    return {c["finding"]: c["verdict"] for c in record["claims"]}, int(result.ret)


def test_a_planted_pair_reproduces_every_finding(pytester, tmp_path, recorded):
    base = recorded("base", instruction=0.2, middle=0.15, seed=1)
    tuned = recorded("tuned", instruction=0.7, middle=0.3, seed=2)
    found, code = verdicts(pytester, tmp_path, base, tuned)
    assert set(found.values()) == {"reproduced"}
    assert code == 0


def test_the_planted_pair_turned_round_contradicts_what_is_paired(pytester, tmp_path, recorded):
    base = recorded("base", instruction=0.7, middle=0.3, seed=1)
    tuned = recorded("tuned", instruction=0.2, middle=0.15, seed=2)
    found, code = verdicts(pytester, tmp_path, base, tuned)
    assert found["wu2023.instruction_density_rises"] == "contradicted"
    assert found["wu2023.instructions_stay_important"] == "contradicted"
    assert found["wu2023.prompt_middle_recovers"] == "contradicted"
    assert code == pytest.ExitCode.TESTS_FAILED


def test_evidence_against_itself_reproduces_nothing_that_is_paired(pytester, tmp_path, recorded):
    base = recorded("base", instruction=0.4, middle=0.3, seed=1)
    found, _ = verdicts(pytester, tmp_path, base, base)
    paired = {k: v for k, v in found.items() if k != "wu2023.density_marks_followed"}  # that one is within a model
    assert "reproduced" not in paired.values()
