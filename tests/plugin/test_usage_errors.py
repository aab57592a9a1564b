"""The user's mistakes: exit code 4 and one message that says what to do, before anything is loaded."""

from __future__ import annotations

import json

import pytest


def refused(result: pytest.RunResult, *patterns: str) -> None:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *"])
    for pattern in patterns:
        result.stderr.fnmatch_lines([pattern])
    assert "Traceback" not in result.stderr.str()


def test_one_checkpoint_alone(suites, tiny_base):
    refused(suites(pair=("--base", tiny_base)), "*--tuned*")


def test_a_missing_path(suites, tiny_base, tmp_path):
    refused(suites(pair=("--base", tiny_base, "--tuned", tmp_path / "nowhere")), f"*{tmp_path}/nowhere*")


def test_a_folder_without_weights(suites, tiny_base, tmp_path):
    (tmp_path / "config.json").write_text((tiny_base / "config.json").read_text())
    refused(suites(pair=("--base", tiny_base, "--tuned", tmp_path)), "*safetensors*")


def test_a_pickled_checkpoint(suites, tiny_base, make_checkpoint):
    folder = make_checkpoint("pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(suites(pair=("--base", tiny_base, "--tuned", folder)), "*pytorch_model.bin*")


def test_an_encoder(suites, tiny_base, make_checkpoint):
    folder = make_checkpoint("encoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert", "architectures": ["BertModel"]}))
    refused(suites(pair=("--base", tiny_base, "--tuned", folder)), "*BertModel*")


def test_tokenizers_that_differ_name_the_tokens(suites, tiny_base, make_checkpoint):
    folder = make_checkpoint("other")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused(suites(pair=("--base", tiny_base, "--tuned", folder)), "*'a'*'b'*")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "*no prompts*"),
        ('{"id": "a"', "*bad.jsonl:1*JSON*"),
        ('{"id": "a", "prompt": "Do it.", "instruction_spans": [[0, 99]]}', "*bad.jsonl:1*99*"),
    ],
)
def test_bad_prompt_sets(suites, tiny_base, tiny_tuned, tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(line)
    refused(suites(pair=("--base", tiny_base, "--tuned", tiny_tuned, "--shift-prompts", path)), message)


def test_an_unknown_pair_lists_the_known(suites, tmp_path, tiny_base, tiny_tuned):
    path = tmp_path / "pairs.toml"
    path.write_text(f'[pairs.llama-vicuna]\nbase = "{tiny_base}"\ntuned = "{tiny_tuned}"\n')
    refused(suites(pair=("--pairs", path, "--pair", "lama-vicuna")), "*lama-vicuna*llama-vicuna*")


def test_a_store_that_is_a_file(suites, tmp_path):
    (tmp_path / "file").write_text("")
    refused(suites(store=tmp_path / "file"), "*is a file*")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shift-alpha", "2"), "*--shift-alpha is 2.0*"),
        (("--shift-max-new-tokens", "0"), "*at least 1*"),
        (("--shift-device", "tpu"), "*tpu*"),
    ],
)
def test_options_out_of_range(suites, options, message):
    refused(suites(*options), message)


def test_a_default_pair_with_a_bad_pyproject(suites, pytester):
    """Without pair options the mistake shows at collection; it is a usage error all the same."""
    path = pytester.path / "pairs.toml"
    path.write_text("[pairs.x]\nbase = 3\n")
    refused(suites(pair=("--pairs", path)), "*pairs.toml*")
