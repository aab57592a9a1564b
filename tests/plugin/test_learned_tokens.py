"""A pair whose tuned checkpoint is a prompt-learning adapter: responses and likelihoods count, the rest does not."""

from __future__ import annotations

import pytest


def test_findings_on_attributions_and_weights_do_not_apply_by_name(
    suites, pytester, record, tiny_base, tiny_prompts, tiny_words, tmp_path
):
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_base)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    peft.get_peft_model(model, config).save_pretrained(pytester.path / "learned")
    pairs = pytester.path / "pairs.toml"
    pairs.write_text(
        f'[pairs.learned]\nbase = "{tiny_base}"\ntuned = {{ model = "{tiny_base}", adapter = "learned" }}\n'
        f'prompts = ["{tiny_prompts}"]\nvocabulary = "{tiny_words}"\nword_vectors = "{tiny_words}"\n'
    )
    suites(
        "-k",
        "density_rises or tuned_follows or verb_counts or ffn",
        suite="",
        pair=("--pairs", pairs),
        store=tmp_path / "store",
    )
    held = record()
    assert held["errors"] == []
    verdicts = {claim["finding"]: (claim["verdict"], claim["reason"]) for claim in held["claims"]}
    assert verdicts.pop("hewitt2024.tuned_follows")[0] != "not_applicable"
    assert len(verdicts) >= 2
    for verdict, reason in verdicts.values():
        assert verdict == "not_applicable"
        assert reason.startswith("learned is a PROMPT_TUNING adapter: learned tokens before the text")
