"""Findings on weights through the whole run: a checkpoint against itself, and pairs without weights."""

from __future__ import annotations

import json
import shutil

from tuneshift.claims.catalogue import findings
from tuneshift.claims.claim_record import IDENTICAL
from tuneshift.engine.plan import reads_weights

ON_WEIGHTS = sorted(f.id for f in findings() if reads_weights(f))


def test_identical_weights_reproduce_nothing(suites, record, tiny_base, tiny_words, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_base, copy)
    words = ("--shift-vocabulary", tiny_words, "--shift-word-vectors", tiny_words)
    suites("-k", "ffn or heads or lower_layers", *words, pair=("--base", tiny_base, "--tuned", copy), suite="")
    claims = record()["claims"]
    assert sorted(claim["finding"] for claim in claims) == ON_WEIGHTS
    assert {claim["verdict"] for claim in claims} == {"not_applicable"}
    assert {claim["effect"] for claim in claims} <= {0.0, None}
    # Others have nothing to measure on weights that stay, or an annotator that is blind in a space of random vectors.
    found = [claim for claim in claims if claim["effect"] is not None]
    assert {claim["reason"] for claim in found} == {IDENTICAL}
    assert "wu2023.ffn_rotates_knowledge" in {claim["finding"] for claim in found}


def test_recorded_pairs_hold_attributions_alone_and_other_claims_take_no_share_of_the_level(suites, record, tmp_path):
    import numpy as np
    import pyarrow
    from pyarrow import parquet

    rows = [{"id": f"p{i}", "prompt": "Sort it: b", "instruction_spans": [[0, 8]]} for i in range(4)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = {
        "id": [row["id"] for row in rows],
        "input_tokens": [["▁Sort", "▁it", ":", "▁b"]] * 4,
        "output_tokens": [["▁x"] * 6] * 4,
        "levels": [np.full((4, 6), 10, dtype=np.uint8).tobytes()] * 4,
    }
    for side in ("one", "two"):
        parquet.write_table(pyarrow.table(table), tmp_path / f"{side}.parquet")
    (tmp_path / "pairs.toml").write_text(
        '[pairs.recorded]\nbase = { evidence = "one.parquet" }\ntuned = { evidence = "two.parquet" }\n'
        'prompts = ["prompts.jsonl"]\n'
    )
    result = suites(pair=("--pairs", tmp_path / "pairs.toml"), suite="")
    made = record()
    skipped = {c["finding"] for c in made["claims"] if "recorded evidence, which holds no" in c["reason"]}
    assert set(ON_WEIGHTS) < skipped  # and those that generate or score
    applicable = [c for c in made["claims"] if c["verdict"] != "not_applicable"]
    attributed = [c["finding"] for c in made["claims"] if "recorded evidence, which holds no" not in c["reason"]]
    assert made["run"]["confirmatory_claims"] == len(applicable)
    assert len(applicable) <= 4 < len(attributed)  # a missing sibling is said as such
    result.stdout.fnmatch_lines(["*skipped*"])
