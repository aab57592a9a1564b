"""``tuneshift doctor``: every check in every state that it can be in, with what it tells the user to do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from quantised_copies import fp8, gptq
from safetensors.torch import load_file, save_file

from tuneshift.checkpoints.inspection import inspect
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.cli import main
from tuneshift.commands.common import OK, PROBLEMS, USAGE
from tuneshift.doctor import checkpoints as doctor_checkpoints
from tuneshift.doctor import machine as doctor
from tuneshift.errors import CheckpointError
from tuneshift.store.evidence import EvidenceItem, EvidenceKey
from tuneshift.store.store import Store

KEY = EvidenceKey(measure="attribution", version=1, params={}, checkpoint="c" * 64, dtype="float32", prompts="p")
NEEDS = ["torch>=2.6", 'peft>=0.17; extra == "peft"', 'openai>=1.50; extra == "openai"']


def ref(folder: Path) -> ModelRef:
    return ModelRef(name=folder.name, model=str(folder))


@pytest.fixture
def store(tmp_path):
    root = tmp_path / "store"
    with Store(root).session(KEY, ("a", "b"), {}, chunk_size=1) as session:
        for number, ids in session.missing:
            session.write(number, [EvidenceItem(id=i, arrays={"x": np.arange(3.0)}) for i in ids])
    return root


@pytest.fixture
def checkpoint(tiny_tuned, tmp_path):
    """A copy of the tiny tuned checkpoint to break."""
    return Path(shutil.copytree(tiny_tuned, tmp_path / "broken"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_old_python_fails():
    assert doctor.python_check().state == "ok"
    old = doctor.python_check((3, 10))
    assert (old.state, old.found) == ("fail", "3.10")
    assert "3.11" in old.advice


@pytest.mark.parametrize(
    ("versions", "states"),
    [
        ({"torch": "2.13.0", "peft": "0.21.2", "openai": "1.50"}, ["ok", "ok", "ok"]),
        ({"torch": "2.5.1", "peft": "0.21.2", "openai": "1.50"}, ["fail", "ok", "ok"]),
        ({"peft": "0.16", "openai": "1.50"}, ["fail", "warn", "ok"]),
        ({"torch": "2.6.0+cu126"}, ["ok", "warn", "warn"]),
    ],
)
def test_packages_that_are_missing_or_too_old(versions, states):
    def installed(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    checks = {check.name: check for check in doctor.package_checks(NEEDS, installed)}
    assert [checks[name].state for name in ("packages", "peft", "openai")] == states
    for check in checks.values():
        assert ("pip install" in check.advice) == (check.state != "ok")


def test_every_extra_of_the_doctor_is_one_of_the_package():
    """A renamed extra would otherwise drop out of the doctor without a word."""
    names = {check.name for check in doctor.package_checks()}
    assert names == {"packages", *doctor.EXTRAS}


def test_a_device_that_is_not_there_fails_and_a_cpu_is_to_know():
    assert doctor.device_check("cpu").state == "warn"
    missing = doctor.device_check("cuda:99")
    assert missing.state == "fail"
    assert "--shift-device" in missing.advice


def test_a_gpu_is_ok_and_shows_its_memory(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (60e9, 80e9))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "a card")
    check = doctor.device_check("cuda")
    assert (check.state, check.found) == ("ok", "cuda, a card, 60 of 80 GB free")


def test_sentence_data_that_are_missing_are_to_know():
    missing = doctor.punkt_check(lambda: False)
    assert missing.state == "warn"
    assert "nltk.downloader punkt_tab" in missing.advice
    assert doctor.punkt_check(lambda: True).state == "ok"


def test_without_nltk_nothing_reads_its_data():
    def absent() -> bool:
        raise ImportError

    assert doctor.punkt_check(absent).state == "ok"


@pytest.mark.parametrize(("free", "state"), [(10_000_000, "fail"), (1_000_000_000, "warn"), (50_000_000_000, "ok")])
def test_free_disk(tmp_path, free, state):
    assert doctor.disk_check("disk", tmp_path / "not" / "yet", free=lambda path: free).state == state


def test_a_file_in_the_folders_place_and_a_folder_that_is_closed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert doctor.disk_check("disk", tmp_path / "file" / "store").state == "fail"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    closed = doctor.disk_check("disk", tmp_path)
    assert closed.state == "fail"
    assert "--shift-store" in closed.advice


def test_a_store_that_is_absent_sound_damaged_or_of_the_future(store, tmp_path):
    assert "none yet" in doctor.store_check(tmp_path / "none").found
    assert doctor.store_check(store).state == "ok"
    assert "1 set" in doctor.store_check(store).found
    chunk = next(store.rglob("chunk-00000.safetensors"))
    chunk.write_bytes(chunk.read_bytes()[:-1] + bytes([chunk.read_bytes()[-1] ^ 1]))
    damaged = doctor.store_check(store)
    assert damaged.state == "warn"
    assert "1 damaged" in damaged.found
    edit(next(store.rglob("key.json")), format=99)
    future = doctor.store_check(store)
    assert future.state == "fail"
    assert "evidence verify" in future.advice


def test_a_store_that_is_a_file_fails(tmp_path):
    (tmp_path / "store").write_text("")
    assert doctor.store_check(tmp_path / "store").state == "fail"


def test_the_hub_answers_is_silent_or_is_not_to_be_asked(monkeypatch):
    def silent(address: str, seconds: float) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert doctor.hub_check(lambda address, seconds: None).state == "ok"
    failed = doctor.hub_check(silent)
    assert failed.state == "fail"
    assert "timed out" in failed.found
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = doctor.hub_check(silent)
    assert (offline.state, offline.found) == ("warn", "HF_HUB_OFFLINE is set")


def test_a_server_that_refuses_answers_and_one_that_breaks_does_not(monkeypatch):
    from urllib.error import HTTPError

    def answer(code: int):
        def respond(request, timeout):
            assert timeout == doctor.HUB_SECONDS
            raise HTTPError(request.full_url, code, "", None, None)

        return respond

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.urlopen", answer(403))
    assert doctor.hub_check().state == "ok"
    monkeypatch.setattr("urllib.request.urlopen", answer(503))
    assert doctor.hub_check().state == "fail"


def test_the_hub_is_asked_only_with_its_option(monkeypatch, tmp_path, capsys, tiny_base, tiny_tuned):
    asked = []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(doctor, "_reach", lambda address, seconds: asked.append(address))
    where = ["doctor", "--base", str(tiny_base), "--tuned", str(tiny_tuned), "--store", str(tmp_path)]
    main(where)
    assert asked == []
    main([*where, "--hub"])
    assert len(asked) == 1
    assert "hub: " in capsys.readouterr().out


def test_an_address_of_the_hub_that_is_none_fails(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "nowhere")
    assert doctor.hub_check().state == "fail"


def test_what_a_checkpoints_files_say(tiny_base, tmp_path):
    check = doctor_checkpoints.files_check("base", ref(tiny_base))
    assert check.state == "ok"
    assert "parameters stored as float32, 96 tokens of context" in check.found
    missing = doctor_checkpoints.files_check("base", ref(tmp_path))
    assert missing.state == "fail"
    assert "config.json" in missing.found


def test_a_quantised_checkpoint_is_named_with_what_is_measured_of_it(tiny_base, tmp_path, monkeypatch):
    found = doctor_checkpoints.files_check("tuned", ref(fp8(tiny_base, tmp_path / "copy")))
    parameters = f"{inspect(ref(tiny_base)).parameters:,}"
    assert found.state == "ok"
    assert found.found.startswith(
        f"copy, {parameters} parameters quantised (fp8, 8 bits), 96 tokens of context; measured"
    )
    assert "every measure on dequantised weights; the rounding of activations is left out" in found.found
    monkeypatch.setattr("tuneshift.checkpoints.dequantised.find_spec", lambda module: None)
    missing = doctor_checkpoints.files_check("tuned", ref(gptq(tiny_base, tmp_path / "gptq")))
    assert missing.state == "fail"
    assert missing.found.endswith("run: pip install optimum gptqmodel")


def test_weights_of_the_configurations_shapes_and_finite_are_ok(tiny_base, tmp_path):
    assert doctor_checkpoints.weights_check("base", ref(tiny_base)).state == "ok"
    assert doctor_checkpoints.weights_check("base", ref(fp8(tiny_base, tmp_path / "copy"))).state == "ok"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_fail_with_their_tensor(checkpoint, number):
    held = load_file(checkpoint / "model.safetensors")
    held["model.layers.1.mlp.up_proj.weight"][3, 4] = number
    save_file(held, checkpoint / "model.safetensors", metadata={"format": "pt"})
    found = doctor_checkpoints.weights_check("tuned", ref(checkpoint))
    assert found.state == "fail"
    assert "NaN or infinite weights in 1 tensor: model.layers.1.mlp.up_proj.weight (1 of them)" in found.found


def test_an_adapters_weights_are_looked_at_too(tiny_base, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    save_file({"lora_A.weight": torch.tensor([[1.0, float("nan")]])}, adapter / "adapter_model.safetensors")
    found = doctor_checkpoints.weights_check("tuned", replace(ref(tiny_base), adapter=str(adapter)))
    assert (found.state, "lora_A.weight (1 of them)" in found.found) == ("fail", True)


@pytest.mark.parametrize(
    ("break_", "message"),
    [
        (lambda held: held.update(x=torch.ones(2)), "holds 1 weight that LlamaForCausalLM does not use: x"),
        (lambda held: held.pop("model.norm.weight"), "lacks 1 weight of LlamaForCausalLM"),
        (
            lambda held: held.update({"model.norm.weight": torch.ones(8)}),
            "holds 1 weight of other shapes than its config.json says: model.norm.weight ((8,), not (16,))",
        ),
    ],
)
def test_weights_that_do_not_fit_the_configuration_fail_with_their_name(checkpoint, break_, message, monkeypatch):
    held = load_file(checkpoint / "model.safetensors")
    break_(held)
    save_file(held, checkpoint / "model.safetensors", metadata={"format": "pt"})
    found = doctor_checkpoints.weights_check("tuned", ref(checkpoint))
    assert found.state == "fail"
    assert message in found.found


def test_a_pair_that_is_one_checkpoint_is_to_know(tiny_base, tiny_tuned, tmp_path):
    copy = Path(shutil.copytree(tiny_base, tmp_path / "copy"))
    assert doctor_checkpoints.identity_check(ref(tiny_base), ref(tiny_tuned)).state == "ok"
    found = doctor_checkpoints.identity_check(ref(tiny_base), ref(copy))
    assert found.state == "warn"
    assert "tiny-base and copy have identical weights: where both are asked alike, every difference is 0" in found.found


def test_a_tokenizer_that_gives_texts_back(tiny_base):
    check = doctor_checkpoints.tokenizer_check("base", ref(tiny_base))
    assert check.state == "ok"
    assert "texts come back" in check.found


def test_a_tokenizer_that_is_missing_fails(checkpoint):
    for file in checkpoint.glob("tokenizer*"):
        file.unlink()
    assert doctor_checkpoints.tokenizer_check("base", ref(checkpoint)).state == "fail"


def test_a_tokenizer_that_changes_text_is_to_know(checkpoint):
    edit(checkpoint / "tokenizer.json", normalizer={"type": "Lowercase"})
    check = doctor_checkpoints.tokenizer_check("base", ref(checkpoint))
    assert check.state == "warn"
    assert "'name the colour of a lemon.'" in check.found


def test_a_tokenizer_whose_tokens_miss_characters_fails(checkpoint):
    edit(checkpoint / "tokenizer.json", normalizer={"type": "Replace", "pattern": {"String": "lemon"}, "content": ""})
    check = doctor_checkpoints.tokenizer_check("base", ref(checkpoint))
    assert check.state == "fail"
    assert "lemon" in check.found


def test_a_pair_of_two_tokenizers_fails(tiny_base, make_checkpoint):
    same = doctor_checkpoints.tokenizers_check(ref(tiny_base), ref(tiny_base))
    more = make_checkpoint("more", extra_tokens=["lemon"])
    assert same.state == "ok"
    assert doctor_checkpoints.tokenizers_check(ref(more), ref(tiny_base)).state == "fail"


def test_a_chat_template_that_is_missing_is_to_know_and_one_that_changes_the_text_fails(make_checkpoint, tiny_tuned):
    assert doctor_checkpoints.template_check(ref(tiny_tuned), ref(tiny_tuned)).state == "warn"
    kept = make_checkpoint("kept", template="<u>{{ messages[0]['content'] }}</u><a>")
    assert doctor_checkpoints.template_check(ref(kept), ref(kept)).state == "ok"
    shouts = make_checkpoint("shouts", template="<u>{{ messages[0]['content'] | upper }}</u><a>")
    check = doctor_checkpoints.template_check(ref(shouts), ref(shouts))
    assert check.state == "fail"
    assert "chat_template" in check.advice


def test_an_architecture_of_the_fast_path_of_the_generic_one_and_one_that_nothing_knows(tiny_base, monkeypatch):
    check = doctor_checkpoints.attention_check("base", ref(tiny_base))
    assert check.state == "ok"
    assert "attention sdpa" in check.found
    monkeypatch.setattr("tuneshift.checkpoints.llama.FAST_FAMILIES", {})
    slower = doctor_checkpoints.attention_check("base", ref(tiny_base))
    assert (slower.state, "generic path" in slower.found) == ("warn", True)
    monkeypatch.setattr("tuneshift.checkpoints.weight_maps._FAMILIES", {})
    unknown = doctor_checkpoints.attention_check("base", ref(tiny_base))
    assert unknown.state == "warn"
    assert "model_type 'llama'" in unknown.found


def test_weights_that_stay_packed_are_to_know(tiny_base, tmp_path):
    check = doctor_checkpoints.attention_check("tuned", ref(gptq(tiny_base, tmp_path / "copy")))
    assert check.state == "warn"
    assert "copy is quantised (gptq, 4 bits), and transformers does not turn such weights back" in check.found
    assert "attribution by" not in check.found


def test_an_attention_whose_package_is_missing_fails(checkpoint):
    edit(checkpoint / "config.json", attn_implementation="flash_attention_2")
    check = doctor_checkpoints.attention_check("tuned", ref(checkpoint))
    assert check.state == "fail"
    assert "flash" in check.found.lower()


def test_no_weights_are_read_to_know_the_architecture(tiny_base, monkeypatch):
    def refuse(*args, **kwargs):
        raise CheckpointError("weights were loaded")

    monkeypatch.setattr("tuneshift.checkpoints.loading.load", refuse)
    model = doctor_checkpoints._skeleton(ref(tiny_base))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_the_command_exits_1_where_something_fails_and_says_what_to_do(checkpoint, tiny_base, tmp_path, capsys):
    where = ["doctor", "--store", str(tmp_path / "store"), "--out", str(tmp_path), "--base", str(tiny_base)]
    assert main([*where, "--tuned", str(checkpoint)]) == OK
    assert "0 to mend" in capsys.readouterr().out
    (checkpoint / "config.json").unlink()
    assert main([*where, "--tuned", str(checkpoint), "--json"]) == PROBLEMS
    checks = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in checks if check["state"] == "fail"] == ["tuned checkpoint"]
    assert "base tokenizer" in {check["name"] for check in checks}
    assert not {check["name"] for check in checks} & {"tuned tokenizer", "tokenizers", "chat template"}
    assert all(check["advice"] for check in checks if check["state"] != "ok")


def test_a_tokenizer_that_cannot_be_read_is_said_once(checkpoint, tiny_base, tmp_path, capsys):
    (checkpoint / "tokenizer.json").write_text("{")
    main(["doctor", "--base", str(tiny_base), "--tuned", str(checkpoint), "--store", str(tmp_path / "store"), "--json"])
    failed = [check["name"] for check in json.loads(capsys.readouterr().out) if check["state"] == "fail"]
    assert failed == ["tuned tokenizer"]


def test_half_a_pair_is_a_usage_error(tiny_base, tmp_path):
    assert main(["doctor", "--base", str(tiny_base), "--store", str(tmp_path)]) == USAGE


def test_a_prompt_is_shown_and_a_template_whose_end_is_not_among_a_checkpoints_ends_is_to_know(make_checkpoint):
    turns = "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}{{ strftime_now('%Y') if false }}"
    running_on = ref(make_checkpoint("running-on", template=turns))
    check = doctor_checkpoints.template_check(running_on, running_on)
    assert check.state == "warn"
    assert "a prompt is '<u>Name the colour of a lemon.</u>'" in check.found
    assert "on 2024-07-26" in check.found
    assert "ends a turn with '</u>', which is not among the end tokens of running-on and running-on" in check.found
    ended = ref(make_checkpoint("ended", template=turns.replace("</u>", "<end>")))
    assert doctor_checkpoints.template_check(ended, ended).state == "ok"
