"""foresight.py: what is said to be too little before anything is measured, and what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuneshift.claims.catalogue import findings
from tuneshift.engine.settings import Settings
from tuneshift.pairs import ModelPair, pair_of
from tuneshift.prompts.prompt import PromptSource
from tuneshift.session import foresight
from tuneshift.session.foresight import shortage_lines
from tuneshift.session.requests import Gating, Options
from tuneshift.session.run import RunSession

FOLLOWS, VERBS, SLOPE = (
    "hewitt2024.tuned_follows", "wu2023.heads_gain_instruction_verbs", "wu2023.lower_layers_gain_most",
)  # fmt: skip


@pytest.fixture
def lines(tiny_base, tiny_tuned, tiny_prompts, tiny_words, tmp_path):
    """``lines(finding, n, **of_the_pair)``: what is foretold of a finding on some prompts of the tiny pair."""

    def lines(finding: str, rows: slice = slice(None), *, declared: bool = True, **more: object) -> list[str]:
        path = tmp_path / "some.jsonl"
        path.write_text("".join(tiny_prompts.read_text().splitlines(keepends=True)[rows]))
        pair = pair_of(str(tiny_base), str(tiny_tuned))
        given = {"prompts": (PromptSource(path=str(path)),), "vocabulary": str(tiny_words),
                 "word_vectors": str(tiny_words), **more}  # fmt: skip
        pair = ModelPair(**{**{f: getattr(pair, f) for f in pair.__dataclass_fields__}, **given})
        run = RunSession(
            options=Options(
                base=None, tuned=(), pairs_file=None, pair_names=(), prompts=(), store=tmp_path / "store",
                settings=Settings(device="cpu"), alpha=0.05, here=tmp_path, gating=Gating(storage=tmp_path),
            ),
            known_findings=findings, given=(pair,),
        )  # fmt: skip
        (asked,) = [f for f in findings() if f.id == finding]
        return shortage_lines(run, [(asked, target) for target in run.targets_of(asked)], declared=declared)

    return lines


def test_clusters_are_counted_and_not_prompts(lines):
    """Ten colours are ten clusters, in twenty prompts; alpha .05 of a family of five takes eight."""
    assert lines(FOLLOWS) == []
    assert lines(FOLLOWS, slice(0, 8)) == []
    (said,) = lines(FOLLOWS, slice(0, None, 2))  # ten prompts, five colours
    assert said.startswith(f"{FOLLOWS} on pair:tiny-base-tiny-tuned can hardly be decided: 5 clusters of prompts; at ")
    assert "an interval takes 8" in said


def test_layers_are_those_of_the_checkpoint(lines):
    (said,) = lines(SLOPE)
    assert "2 layers; at this level an interval takes 7" in said


def test_a_declared_outcome_is_no_news_to_a_run_and_stands_in_the_plan(lines, tmp_path):
    declared = tmp_path / "expected.toml"
    declared.write_text(f'[[expect]]\nfinding = "{SLOPE}"\nverdict = "inconclusive"\nreason = "Two layers."\n')
    assert lines(SLOPE, expectations=declared, declared=False) == []
    assert len(lines(SLOPE, expectations=declared)) == 1


def test_a_vocabulary_with_two_instruction_verbs_is_named(lines, tmp_path):
    few = tmp_path / "few.txt"
    few.write_text("\n".join(["write", "describe", *(f"word{chr(97 + i)}" for i in range(9))]))
    (said,) = lines(VERBS, vocabulary=str(few))
    assert "the vocabulary has 2 instruction verbs, and at this level it takes 3 that tuning changed" in said
    assert lines(VERBS) == []


def test_verbs_that_tuning_changed_are_counted_where_relations_are_known(lines, monkeypatch):
    monkeypatch.setattr(foresight, "_changed", lambda *_: (231, 2))
    (said,) = lines(VERBS)
    assert "231 general and 2 instruction verbs that some head gained or lost" in said
    monkeypatch.setattr(foresight, "_changed", lambda *_: (231, 3))
    assert lines(VERBS) == []


@pytest.mark.parametrize(
    ("config", "leaves"),
    [
        ({"target_modules": ["gate_proj", "up_proj", "down_proj"]}, True),
        ({"target_modules": ["v_proj", "o_proj"]}, True),
        ({"target_modules": ["v_proj", "q_proj"]}, False),
        ({"target_modules": ["query_key_value"]}, False),
        ({"target_modules": ["Wqkv"]}, False),
        ({"target_modules": ["c_attn"]}, False),
        ({"target_modules": ["embed_tokens", "up_proj"]}, False),
        ({"target_modules": "all-linear"}, False),
        ({"target_modules": r".*self_attn\.(q|v)_proj"}, False),
        ({"target_modules": ["up_proj"], "modules_to_save": ["embed_tokens"]}, False),
        ({}, False),
    ],
)
def test_an_adapter_that_leaves_queries_and_keys_alone_is_known_by_its_modules(config, leaves, tmp_path: Path):
    """Where the names do not say, nothing is foretold."""
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert foresight._leaves_attention(config) is leaves
