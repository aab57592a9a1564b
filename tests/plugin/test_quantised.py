"""Pairs of a checkpoint and its quantised copy through the whole run: what is measured, and what is said of it."""

from __future__ import annotations

import pytest
from quantised_copies import fp8, gptq, saved

from tuneshift.checkpoints.fingerprint import fingerprint
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.store.store import Store


@pytest.fixture
def options(tiny_base, tiny_prompts, tiny_words, tmp_path):
    """Options that name a pair of the tiny base and a copy of it."""

    def of(copy):
        words = ("--shift-vocabulary", tiny_words, "--shift-word-vectors", tiny_words)
        return ("--base", tiny_base, "--tuned", copy, "--shift-prompts", tiny_prompts, *words)

    return of


def test_a_copy_that_is_dequantised_is_measured_in_full_and_every_claim_says_so(
    suites, record, pytester, options, tiny_base, tmp_path
):
    copy = fp8(tiny_base, tmp_path / "copy")
    chosen = "density_rises or tuned_follows or base_ranks or ffn_rotates"
    result = suites("-k", chosen, suite="", pair=options(copy), store=tmp_path / "store")
    result.stdout.fnmatch_lines(["tuneshift: pair *: tiny-base -> copy (fp8, 8 bits)"])
    held = record()
    assert held["errors"] == []
    (pair,) = held["pairs"]
    assert pair["base"]["quantization"] is None
    assert pair["base"]["parameters"] == pair["tuned"]["parameters"]
    assert pair["tuned"]["quantization"] == {
        "method": "fp8", "bits": [8], "activations": True, "dequantised": "on loading",
        "measured": "every measure on dequantised weights; the rounding of activations is left out",
    }  # fmt: skip
    details = {claim["finding"]: claim["details"].get("quantised") for claim in held["claims"]}
    of_tuned = {"tuned": {"method": "fp8, 8 bits", "weights": "dequantised"}}
    assert details["wu2023.instruction_density_rises"] == of_tuned
    assert details["hewitt2024.tuned_follows"] == of_tuned
    assert details["wu2023.ffn_rotates_knowledge"] == of_tuned
    assert details["hewitt2024.base_ranks_responses"] is None
    effects = {claim["finding"]: claim["effect"] for claim in held["claims"]}
    assert effects["wu2023.ffn_rotates_knowledge"] != 0
    report = (pytester.path / "tuneshift-results" / "report.html").read_text(encoding="utf-8")
    assert "fp8, 8 bits: every measure on dequantised weights; the rounding of activations is left out" in report


def test_one_pair_may_rest_on_weights_as_stored_and_on_dequantised_ones(suites, record, options, tiny_base, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("bitsandbytes", reason="the package bitsandbytes is not installed")
    copy = saved(tiny_base, tmp_path / "copy", transformers.BitsAndBytesConfig(load_in_8bit=True))
    suites("-k", "density_rises or tuned_follows", suite="", pair=options(copy), store=tmp_path / "store")
    assert record()["errors"] == []
    forms = {claim["finding"]: claim["details"]["quantised"]["tuned"] for claim in record()["claims"]}
    assert forms == {
        "wu2023.instruction_density_rises": {"method": "bitsandbytes, 8 bits", "weights": "dequantised"},
        "hewitt2024.tuned_follows": {"method": "bitsandbytes, 8 bits", "weights": "as stored"},
    }
    store, of = Store(tmp_path / "store"), fingerprint(ModelRef(name="copy", model=str(copy)))
    keys = [stored.key for stored in store.list() if stored.key.checkpoint == of]
    computed = {key.measure: store.read(key).provenance.get("weights") for key in keys}
    assert computed == {"attribution": "dequantised", "generation": "stored"}


def test_what_is_taken_of_plain_numbers_does_not_apply_by_name_where_there_are_none(
    suites, record, options, tiny_base, tmp_path
):
    copy = gptq(tiny_base, tmp_path / "copy")
    result = suites("-k", "density_rises or ffn or verb", suite="", pair=options(copy), store=tmp_path / "store")
    assert result.ret == pytest.ExitCode.OK
    held = record()
    assert held["errors"] == []
    assert len(held["claims"]) > 3
    for claim in held["claims"]:
        assert claim["verdict"] == "not_applicable"
        assert claim["reason"].startswith(
            "copy is quantised (gptq, 4 bits), and transformers does not turn such weights"
        )
    result.stdout.fnmatch_lines(
        ["*copy is quantised (gptq, 4 bits)*generation, likelihood, choices and judging take it*"]
    )


def test_a_package_that_the_copy_needs_ends_the_run_before_anything_is_measured(
    suites, options, tiny_base, tmp_path, monkeypatch
):
    monkeypatch.setattr("tuneshift.checkpoints.dequantised.find_spec", lambda module: None)
    copy = gptq(tiny_base, tmp_path / "copy")
    result = suites("-k", "tuned_follows", suite="", pair=options(copy), store=tmp_path / "store")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Checkpoint 'copy' is quantised (gptq, 4 bits)*pip install optimum gptqmodel"])
    assert not list((tmp_path / "store").glob("generation*"))


def test_a_plan_and_a_run_of_what_does_not_load_the_copy_need_no_package(
    suites, options, tiny_base, tmp_path, monkeypatch
):
    monkeypatch.setattr("tuneshift.checkpoints.dequantised.find_spec", lambda module: None)
    copy = gptq(tiny_base, tmp_path / "copy")
    for more in (("--shift-plan",), ("--finding=hewitt2024.base_ranks_responses",)):
        result = suites(*more, suite="", pair=options(copy), store=tmp_path / "store")
        result.stdout.fnmatch_lines(["tuneshift: pair *: tiny-base -> copy (gptq, 4 bits)"])
        assert result.ret != pytest.ExitCode.USAGE_ERROR
