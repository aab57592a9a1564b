"""`tuneshift tune`: its data, the loss, the same bits every time, going on after a kill, and what it writes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from quantised_copies import fp8
from safetensors.torch import load_file
from tolerances import rounding, terms

from tuneshift.checkpoints.loading import load
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.checkpoints.tokenizers import load_tokenizer, require_same_tokenizer
from tuneshift.cli import main
from tuneshift.commands.common import OK, USAGE
from tuneshift.errors import CheckpointError, UsageError
from tuneshift.prompts.tokens import encode
from tuneshift.tuning.card import final_loss
from tuneshift.tuning.data import (
    NOT_LEARNED,
    Example,
    learned_end,
    paper_template,
    read_examples,
    token_row,
    token_rows,
)
from tuneshift.tuning.recipe import Recipe
from tuneshift.tuning.tune import tune

pytest.importorskip("trl", reason="the extra `tune` is not installed")

COLOURS = ("red", "blue", "green", "black", "white", "brown", "pink", "grey", "gold", "teal", "cyan", "lilac")
ROWS = [{"prompt": f"Box {i}: {word}?", "response": word.upper() * (1 + i % 3)} for i, word in enumerate(COLOURS)]


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tuning") / "data.jsonl", ROWS)


@pytest.fixture(scope="module")
def base(make_checkpoint):
    """A random base with dropout, so that a forgotten random state changes the weights."""
    folder = make_checkpoint("tunable", seed=3)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.2}))
    return folder


@pytest.fixture(scope="module")
def still_base(make_checkpoint):
    """The same without dropout: its loss can be computed by hand."""
    return make_checkpoint("still", seed=3)


@pytest.fixture(scope="module")
def recipe(base, data):
    return {
        "base": str(base),
        "how": "instruction",
        "data": data,
        "epochs": 5,
        "rate": 1e-3,
        "batch": 4,
        "micro_batch": 2,
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def done(recipe, tmp_path_factory):
    """An uninterrupted run of 15 steps."""
    torch.manual_seed(99)  # the random state before it must not matter
    return tune(Recipe(**recipe), tmp_path_factory.mktemp("done") / "tuned", tell=lambda line: None)


def bits(folder):
    (file,) = folder.glob("*.safetensors")
    return file.read_bytes()


def notes(folder):
    return json.loads((folder / "tuning.json").read_text())


# ---- data


def test_every_form_of_a_line_is_the_same_example(tmp_path):
    rows = [
        {"prompt": "Name a colour.", "response": "Red."},
        {"instruction": "Name a colour.", "input": "", "output": "Red."},
        {"id": "a", "prompt": "Name a colour.", "instruction_spans": [[0, 4]], "reference": "Red.", "cluster": "x"},
        {"messages": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Red."}]},
    ]
    path = write(tmp_path / "data.jsonl", [rows[0], "", *rows[1:]])
    examples = read_examples(path, "instruction").rows
    assert [(example.prompt, example.response) for example in examples] == [
        (({"role": "user", "content": "Name a colour."},), "Red.")
    ] * 4
    assert [example.line for example in examples] == [1, 3, 4, 5]


def test_an_input_follows_its_instruction_and_earlier_turns_are_kept(tmp_path):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "A colour?"},
        {"role": "assistant", "content": "Red."},
    ]
    path = write(tmp_path / "d.jsonl", [{"instruction": "Sort.", "input": "b a", "output": "a b"}, {"messages": turns}])
    first, second = read_examples(path, "instruction").rows
    assert first.prompt[0]["content"] == "Sort.\n\nb a"
    assert (list(second.prompt), second.response) == (turns[:-1], "Red.")


def test_response_tuning_has_an_empty_user_turn_and_needs_no_prompt(tmp_path):
    path = write(tmp_path / "data.jsonl", [{"response": "Red."}, ROWS[0]])
    for example in read_examples(path, "response").rows:
        assert example.prompt == ({"role": "user", "content": ""},)
    with pytest.raises(UsageError, match=r":1: no 'prompt' or 'instruction'; got 'response'"):
        read_examples(path, "instruction")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'prompt'}", r"not JSON: .* at column 2"),
        ('["a"]', "a JSON list where an object is wanted"),
        ({"text": "Red"}, "no 'response' or 'reference' or 'output' or 'completion'; got 'text'"),
        ({"prompt": "Name one."}, "no 'response'"),
        ({"prompt": "Name one.", "response": " \n"}, "the response is empty"),
        ({"prompt": " ", "response": "Red."}, "the prompt is empty"),
        ({"prompt": ["Name"], "response": "Red."}, r"'prompt' is a string, got \['Name'\]"),
        ({"prompt": "Name", "response": "Red.", "output": "Blue."}, "'response' and 'output' say the same thing twice"),
        ({"prompt": "Name", "response": "\ud800"}, "half of a surrogate pair"),
        ({"messages": "Hi"}, "'messages' is no list of objects"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "no last turn of the assistant"),
        ({"messages": [{"role": "bot", "content": "Hi"}]}, "one of system, user, assistant, got 'bot'"),
        ({"messages": [{"role": "user", "content": 1}]}, "'content' is a string, got 1"),
    ],
)
def test_a_line_that_is_not_in_the_form_is_named_with_what_is_accepted(tmp_path, line, message):
    path = write(tmp_path / "data.jsonl", [ROWS[0], line])
    with pytest.raises(UsageError, match=message) as error:
        read_examples(path, "instruction")
    assert str(error.value).startswith(f"{path}:2: ")
    assert "accepted is one JSON object a line with 'prompt'" in str(error.value)


def test_a_file_without_examples_or_of_no_text_is_named(tmp_path):
    empty, binary = tmp_path / "empty.jsonl", tmp_path / "binary.jsonl"
    empty.write_text("\n \n")
    binary.write_bytes(b'{"prompt": "a",\n "\xff"}')
    with pytest.raises(UsageError, match="no examples in this file; accepted is"):
        read_examples(empty, "instruction")
    with pytest.raises(UsageError, match=r"binary\.jsonl:2: byte 18 is not UTF-8"):
        read_examples(binary, "instruction")
    with pytest.raises(UsageError, match=r"none\.jsonl cannot be read"):
        read_examples(tmp_path / "none.jsonl", "instruction")


# ---- sequences


def example(prompt, response):
    return Example(prompt=({"role": "user", "content": prompt},), response=response, line=1)


def test_a_sequence_is_the_prompt_of_inference_then_the_response_and_the_end_token(still_base):
    tokenizer = load_tokenizer(ModelRef(name="still", model=str(still_base)))
    template = paper_template(tokenizer)
    row = token_row(example("Hi there", "Red."), tokenizer, template, end=0, where="")
    before = encode("Hi there", tokenizer, template).ids.tolist()
    assert tokenizer.decode(before) == "<|user|>\nHi there\n<|assistant|>\n"
    response = [*tokenizer("Red.")["input_ids"], tokenizer.eos_token_id]
    assert list(row.ids) == before + response
    assert list(row.labels) == [NOT_LEARNED] * len(before) + response
    assert row.learned == len("Red.") + 1
    plain = token_row(example("Hi there", "Red."), tokenizer, None, end=0, where="")
    assert tokenizer.decode(plain.ids) == "Hi there Red.<end>"


@pytest.mark.parametrize("with_prompt", [True, False])
def test_sequences_are_those_that_the_embedded_family_is_measured_on(tmp_path, capsys, with_prompt):
    from tuneshift.embedded.recipe import load_workbook
    from tuneshift.embedded.siblings import chat_ids, response_ids, tuning_exercises

    assert main(["embedded", "exercises", "--out", str(tmp_path / "x.jsonl"), "--count", "30"]) == OK
    tokenizer = load_tokenizer(ModelRef(name="base", model="embedded:micro/base"))
    examples = read_examples(tmp_path / "x.jsonl", "instruction" if with_prompt else "response")
    rows, left_out = token_rows(examples, tokenizer, tokenizer.chat_template, max_length=512)
    exercises = tuning_exercises(load_workbook(0), 30, seed=0)
    prompts = [chat_ids(tokenizer, exercise.prompt if with_prompt else "") for exercise in exercises]
    responses = [response_ids(tokenizer, exercise.answer) for exercise in exercises]
    assert left_out == 0
    assert [list(row.ids) for row in rows] == [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
    assert [row.learned for row in rows] == [len(response) for response in responses]


def test_the_papers_format_begins_with_bos_where_the_tokenizer_does(make_checkpoint):
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(ModelRef(name="still", model=str(make_checkpoint("bos"))))
    assert not paper_template(tokenizer).startswith("{{ bos_token }}")
    tokenizer.bos_token = "<u>"
    assert not paper_template(tokenizer).startswith("{{ bos_token }}")  # it has one and does not use it
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<u> $A", special_tokens=[("<u>", 1)])
    assert paper_template(tokenizer).startswith("{{ bos_token }}")
    row = token_row(example("a", "b"), tokenizer, paper_template(tokenizer), end=0, where="")
    assert row.ids.count(1) == 1


def test_longer_examples_are_left_out_and_counted_and_all_of_them_is_an_error(tmp_path, still_base):
    tokenizer = load_tokenizer(ModelRef(name="still", model=str(still_base)))
    template = paper_template(tokenizer)
    path = write(tmp_path / "data.jsonl", [ROWS[0], {"prompt": "long " * 30, "response": "x"}, ROWS[1]])
    examples = read_examples(path, "instruction")
    rows, left_out = token_rows(examples, tokenizer, template, max_length=96)
    assert (len(rows), left_out) == (2, 1)
    longest = max(len(row.ids) for row in rows)
    assert token_rows(examples, tokenizer, template, max_length=longest) == (rows, 1)
    with pytest.raises(UsageError, match=r"none of its 3 examples fits into 5 tokens, the shortest has \d+"):
        token_rows(examples, tokenizer, template, max_length=5)


def test_formats_that_cannot_hold_the_turns_and_a_missing_end_token_are_errors(still_base):
    tokenizer = load_tokenizer(ModelRef(name="still", model=str(still_base)))
    turns = Example(prompt=({"role": "system", "content": "s"}, {"role": "user", "content": "u"}), response="r", line=7)
    with pytest.raises(UsageError, match=r"d:7: a plain prompt is one user turn"):
        token_row(turns, tokenizer, None, end=0, where="d:7")
    with pytest.raises(UsageError, match=r"d:7: the chat template cannot be rendered: TemplateError: no system"):
        token_row(turns, tokenizer, "{{ raise_exception('no system') }}", end=0, where="d:7")
    tokenizer.eos_token = None
    with pytest.raises(CheckpointError, match="no end token"):
        learned_end(tokenizer, None)


# ---- the loss


def response_nll(folder, rows, *, prompts_too=False):
    """Mean negative log-likelihood of response tokens, one sequence at a time, with no padding and no trainer."""
    total, count = 0.0, 0
    with load(ModelRef(name="still", model=str(folder)), device="cpu") as checkpoint, torch.no_grad():
        for row in rows:
            ids = torch.tensor(row.ids)
            logprobs = checkpoint.model(ids[None]).logits[0].log_softmax(-1)
            for position in range(1, len(ids)):
                if prompts_too or row.labels[position] != NOT_LEARNED:
                    total -= float(logprobs[position - 1, ids[position]])
                    count += 1
    return total / count


@pytest.mark.numerics
def test_the_loss_is_that_of_the_response_tokens_of_the_whole_batch(still_base, recipe, tmp_path):
    tokenizer = load_tokenizer(ModelRef(name="still", model=str(still_base)))
    rows, _ = token_rows(
        read_examples(recipe["data"], "instruction"), tokenizer, paper_template(tokenizer), max_length=96
    )
    by_hand = response_nll(still_base, rows)
    assert abs(by_hand - response_nll(still_base, rows, prompts_too=True)) > 0.01  # prompts would show
    with load(ModelRef(name="still", model=str(still_base)), device="cpu") as checkpoint:
        # Two passes, each averaged over the rows' tokens.
        loss_terms = 2 * (terms(checkpoint.model, 96) + sum(len(row.ids) for row in rows))
    one_batch = {**recipe, "base": str(still_base), "epochs": 1, "batch": 12}
    for micro_batch in (12, 3):  # micro-batches of unequal numbers of tokens weigh by tokens
        folder = tune(Recipe(**{**one_batch, "micro_batch": micro_batch}), tmp_path / f"m{micro_batch}")
        assert notes(folder)["first_loss"] == pytest.approx(by_hand, rel=rounding(loss_terms))
        assert notes(folder)["learned"] == sum(len(row["response"]) + 1 for row in ROWS)


@pytest.mark.numerics
def test_labels_of_prompt_tokens_change_nothing(still_base, recipe, tmp_path):
    from tuneshift.tuning.trainer import new_trainer

    made = Recipe(**{**recipe, "base": str(still_base)})
    with load(made.ref(), device="cpu") as checkpoint:
        template = paper_template(checkpoint.tokenizer)
        rows, _ = token_rows(read_examples(made.data, "instruction"), checkpoint.tokenizer, template, max_length=96)
        trainer = new_trainer(made, checkpoint, rows, tmp_path)
        batch = next(iter(trainer.get_train_dataloader()))
        masked = batch["labels"] == NOT_LEARNED
        assert (batch["labels"][~masked] == batch["input_ids"][~masked]).all()
        logits = checkpoint.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        logits.retain_grad()
        shifted = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
        assert float(trainer.compute_loss(checkpoint.model, dict(batch)).detach()) == pytest.approx(
            float(shifted.detach()), rel=2 * rounding(terms(checkpoint.model, 96) + batch["input_ids"].numel())
        )
        shifted.backward()
        assert not logits.grad[:, :-1][masked[:, 1:]].any()


def test_tuning_lowers_the_loss_on_responses(done, base, recipe):
    tokenizer = load_tokenizer(ModelRef(name="tuned", model=str(done)))
    rows, _ = token_rows(
        read_examples(recipe["data"], "instruction"), tokenizer, tokenizer.chat_template, max_length=96
    )
    assert response_nll(done, rows) < response_nll(base, rows) - 0.1
    assert notes(done)["final_loss"] < notes(done)["first_loss"]


@pytest.mark.numerics
@pytest.mark.parametrize(("steps", "averaged"), [(1, 1), (15, 1), (64, 6), (999, 99), (5000, 100)])
def test_the_final_loss_is_that_of_the_last_steps_alone(steps, averaged):
    losses = [10.0] * (steps - averaged) + [float(k) for k in range(averaged)]
    assert final_loss(losses) == (pytest.approx((averaged - 1) / 2), averaged)


def test_response_tuning_does_not_see_the_prompts(recipe, done, tmp_path):
    other = write(tmp_path / "other.jsonl", [{**row, "prompt": "Anything."} for row in ROWS])
    made = [
        tune(Recipe(**{**recipe, "how": "response", "data": path, "epochs": 1}), tmp_path / path.stem)
        for path in (recipe["data"], other)
    ]
    assert bits(made[0]) == bits(made[1])
    same = tune(Recipe(**{**recipe, "data": other, "epochs": 1}), tmp_path / "instruction")
    assert bits(same) != bits(made[0])


# ---- the same bits


def test_a_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others(recipe, done, tmp_path):
    again = tune(Recipe(**recipe), tmp_path / "again")
    assert bits(again) == bits(done)
    assert (again / "README.md").read_text() == (done / "README.md").read_text()
    assert bits(tune(Recipe(**{**recipe, "seed": 1}), tmp_path / "other")) != bits(done)


def test_an_adapter_is_the_same_bit_for_bit_and_loads_on_its_base(recipe, tmp_path):
    made = []
    for name in ("one", "two"):
        torch.manual_seed(len(made))
        made.append(tune(Recipe(**{**recipe, "rank": 4, "rate": 1e-2, "epochs": 1}), tmp_path / name))
    assert bits(made[0]) == bits(made[1])
    assert sorted(path.name for path in made[0].glob("*.safetensors")) == ["adapter_model.safetensors"]
    ref = ModelRef(name="lora", model=recipe["base"], adapter=str(made[0]))
    require_same_tokenizer(ModelRef(name="base", model=recipe["base"]), ref)
    with load(ModelRef(name="base", model=recipe["base"]), device="cpu") as checkpoint:
        before = {name: tensor.clone() for name, tensor in checkpoint.model.named_parameters()}
    with load(ref, device="cpu") as checkpoint:
        moved = {name for name, tensor in checkpoint.model.named_parameters() if not tensor.equal(before[name])}
    assert moved == {name for name in before if "proj" in name}


KILLED = """
import sys, time
from pathlib import Path
import tuneshift.tuning.trainer as trainer
from tuneshift.cli import main

class Scripted(trainer.Checkpoints):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 9:
            Path(sys.argv[1]).touch()
            time.sleep(600)
    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = state.global_step == 7

trainer.Checkpoints = Scripted
main(sys.argv[2:])
"""


def test_a_killed_run_goes_on_to_the_weights_of_an_uninterrupted_one(recipe, done, tmp_path, monkeypatch):
    from tuneshift.tuning import trainer as tuning_trainer

    out, signal_file = tmp_path / "killed", tmp_path / "now"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in recipe.items() if name != "base"]
    command = [sys.executable, "-c", KILLED, str(signal_file), "tune", recipe["base"], f"--out={out}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        while not signal_file.exists() and child.poll() is None:
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.05)
        assert child.poll() is None, child.stdout.read()
        child.send_signal(signal.SIGKILL)
    part = tmp_path / "killed.part"
    assert not out.exists()
    assert (part / "checkpoint-7" / "trainer_state.json").is_file()
    # as a kill in the middle of saving leaves it
    shutil.copytree(part / "checkpoint-7", part / "checkpoint-9", ignore=lambda *_: ["trainer_state.json"])
    with pytest.raises(UsageError, match=r"killed\.part holds .* another recipe: seed is 0 there and 1 here"):
        tune(Recipe(**{**recipe, "seed": 1}), out)
    lines, passes, step = [], [], tuning_trainer.Trainer.training_step
    monkeypatch.setattr(
        tuning_trainer.Trainer, "training_step", lambda *args, **kwargs: passes.append(1) or step(*args, **kwargs)
    )
    tune(Recipe(**recipe), out, tell=lines.append)
    assert "Going on after step 7." in lines
    assert len(passes) == (15 - 7) * 2  # micro-batches; the first seven steps are not computed again
    assert bits(out) == bits(done)
    assert notes(out) == notes(done)
    assert not part.exists()


def test_checkpoints_come_by_the_clock_and_never_take_more_than_their_share(monkeypatch):
    from transformers import TrainerControl, TrainerState

    from tuneshift.tuning import trainer as tuning_trainer

    now = [0.0]
    monkeypatch.setattr(tuning_trainer.time, "monotonic", lambda: now[0])
    callback = tuning_trainer.Checkpoints(30.0, 0.05)
    saved = []
    for step in range(1, 1001):  # a second each, and saving takes four: every eightieth second
        now[0] += 1.0
        control = TrainerControl()
        state = TrainerState(global_step=step, max_steps=1000)
        callback.on_step_end(None, state, control)
        if control.should_save:
            now[0] += 4.0
            callback.on_save(None, state, control)
            saved.append(step)
    assert saved[:3] == [30, 110, 190]
    assert 4 * len(saved) / now[0] <= 0.05


# ---- the folder


def test_the_folder_has_weights_tokenizer_card_and_notes_and_loads(done, base, recipe):
    names = {path.name for path in done.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "tuning.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in names)
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in done.iterdir())  # others may read them too
    ref = ModelRef(name="tuned", model=str(done))
    require_same_tokenizer(ModelRef(name="base", model=str(base)), ref)
    assert load_tokenizer(ref).chat_template.startswith("{% for message in messages %}{{ '<|'")
    differing = {"transformers_version"}
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (base, done))
    assert {k: v for k, v in after.items() if k not in differing} == {
        k: v for k, v in before.items() if k not in differing
    }
    assert {t.dtype for t in load_file(done / "model.safetensors").values()} == {torch.float32}


def test_the_card_says_what_was_done(done, recipe):
    import hashlib

    text, noted = (done / "README.md").read_text(), notes(done)
    assert hashlib.sha256(recipe["data"].read_bytes()).hexdigest() in text
    assert "| examples | 12 used, 0 left out (longer than 96 tokens) |" in text
    assert "| trained | all, 15 steps |" in text
    assert f"{noted['final_loss']:.4f} at the last |" in text
    assert "| learning rate | 0.001, 3 % warm-up" in text
    for package in ("torch", "transformers", "trl", "peft"):
        assert f"{package} {noted['versions'][package]}" in text
    assert text.startswith(f'---\nbase_model: "{recipe["base"]}"\n')
    assert 'tuned = "THIS FOLDER"' in text


def test_weights_keep_their_stored_type_and_the_learned_end_token_ends_generation(still_base, recipe, tmp_path):
    from transformers import AutoModelForCausalLM

    half = tmp_path / "half"
    shutil.copytree(still_base, half)
    AutoModelForCausalLM.from_pretrained(still_base, dtype=torch.bfloat16).save_pretrained(half)
    (half / "generation_config.json").write_text(json.dumps({"eos_token_id": 5}))
    made = tune(Recipe(**{**recipe, "base": str(half), "epochs": 1, "dtype": "bfloat16"}), tmp_path / "out")
    assert set(json.loads((made / "generation_config.json").read_text())["eos_token_id"]) == {0, 5}
    assert {t.dtype for t in load_file(made / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((made / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_template_of_its_own_end_token_teaches_that_one_and_generation_ends_on_it(make_checkpoint, recipe, tmp_path):
    turn = "{% for m in messages %}<u>{{ m['content'] }}{% if m['role'] == 'assistant' %}</u>{% endif %}{% endfor %}"
    base = str(make_checkpoint("turns", template=turn + "{% if add_generation_prompt %}<a>{% endif %}"))
    tokenizer = load_tokenizer(ModelRef(name="turns", model=base))
    rows, _ = token_rows(
        read_examples(recipe["data"], "instruction"), tokenizer, tokenizer.chat_template, max_length=96
    )
    assert tokenizer.decode(rows[0].ids) == "<u>Box 0: red?<a>RED</u>"
    made = tune(Recipe(**{**recipe, "base": base, "epochs": 1}), tmp_path / "out")
    assert 2 in json.loads((made / "generation_config.json").read_text())["eos_token_id"]
    assert load_tokenizer(ModelRef(name="tuned", model=str(made))).eos_token == "</u>"


def test_a_done_folder_is_left_alone_and_refuses_another_recipe(done, recipe, tmp_path):
    before = (done / "model.safetensors").stat().st_mtime_ns
    lines = []
    assert tune(Recipe(**recipe), done, tell=lines.append) == done
    assert "nothing to do" in lines[-1]
    assert (done / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"rate is 0\.001 there and 0\.01 here; batch is 4 there and 12 here\. Name"):
        tune(Recipe(**{**recipe, "rate": 1e-2, "batch": 12}), done)
    with pytest.raises(UsageError, match=r"chat_template is .* there and None here"):
        tune(Recipe(**{**recipe, "chat_template": "none"}), done)
    with pytest.raises(UsageError, match=r"data is '\w+\.\.\.' there"):
        tune(Recipe(**{**recipe, "data": write(tmp_path / "less.jsonl", ROWS[1:])}), done)


def test_a_quantised_base_is_refused(base, recipe, tmp_path):
    copy = fp8(base, tmp_path / "copy")
    with pytest.raises(UsageError, match=r"copy is quantised \(fp8, 8 bits\), and rounded numbers cannot be trained"):
        tune(Recipe(**{**recipe, "base": str(copy)}), tmp_path / "out")


def test_a_folder_with_something_else_in_it_is_refused(recipe, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is there already and holds no tuned checkpoint"):
        tune(Recipe(**recipe), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_that_fails_leaves_no_folder_and_the_next_one_ends_it(recipe, tmp_path, monkeypatch):
    def full_disk(tuned):
        raise OSError("no space left")

    made = Recipe(**{**recipe, "epochs": 1})
    (tmp_path / "out").mkdir()  # an empty folder is as good as none
    with monkeypatch.context() as patch:
        patch.setattr("tuneshift.tuning.tune.card", full_disk)
        with pytest.raises(OSError, match="no space left"):
            tune(made, tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())
    tune(made, tmp_path / "out")
    assert (tmp_path / "out" / "README.md").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_folder_that_cannot_be_made_and_damaged_notes_are_errors(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"out\.part cannot be made \(Not a directory\)"):
        tune(Recipe(**recipe), tmp_path / "file" / "out")
    (tmp_path / "tuning.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tuning\.json cannot be read as JSON"):
        tune(Recipe(**recipe), tmp_path)


def test_two_processes_do_not_tune_into_one_folder(recipe, tmp_path):
    from filelock import FileLock

    (tmp_path / "out.part").mkdir()
    with FileLock(tmp_path / "out.part" / ".lock"), pytest.raises(UsageError, match="Another process is tuning into"):
        tune(Recipe(**recipe), tmp_path / "out")


def test_a_loss_that_is_no_number_stops_the_run_and_clears_its_traces(recipe, tmp_path):
    with pytest.raises(UsageError, match=r"The loss is nan at step \d+: the rate 1e\+30 is too high .* --rate 1e\+29"):
        tune(Recipe(**{**recipe, "rate": 1e30}), tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_nothing_is_reported_to_anyone_and_logs_stay_quiet(recipe, tmp_path, monkeypatch, capfd):
    import socket

    import trl.trainer.base_trainer as trl_base

    asked = []
    monkeypatch.delenv("CI", raising=False)  # TRL sends nothing from CI
    monkeypatch.setattr(trl_base, "send_telemetry", lambda **kwargs: asked.append(kwargs["topic"]))
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, lambda self, *args: asked.append(args))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: asked.append(args))
    monkeypatch.setattr("tuneshift.checkpoints.files._download", lambda *args: Path(recipe["base"]))
    short = {**recipe, "base": "some/base", "epochs": 1}
    tune(Recipe(**short), tmp_path / "full", tell=lambda line: None)
    adapter = tune(Recipe(**{**short, "rank": 2}), tmp_path / "adapter", tell=lambda line: None)
    assert asked == []
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "some/base"
    assert capfd.readouterr() == ("", "")


# ---- options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"how": "single"}, "--how single: no such kind of tuning; did you mean 'single-task'"),
        ({"dtype": "float16"}, "--dtype float16: tuning is computed in one of float32, bfloat16"),
        ({"epochs": 0}, "--epochs is 0; a number of at least 1"),
        ({"micro_batch": 0}, "--micro-batch is 0"),
        ({"rate": 0.0}, "--rate is 0.0; a number above 0"),
        ({"rate": float("nan")}, "--rate is nan"),
        ({"seed": -1}, "--seed is -1"),
        ({"batch": 12, "micro_batch": 8}, "--micro-batch 8 does not divide --batch 12"),
    ],
)
def test_numbers_out_of_range_are_named_by_their_option(recipe, change, message):
    with pytest.raises(UsageError, match=message):
        Recipe(**{**recipe, **change})


def test_rates_and_batches_where_none_is_asked_for(recipe):
    plain = {"base": "b", "how": "response", "data": Path("d")}
    assert (Recipe(**plain).learning_rate, Recipe(**plain, rank=8).learning_rate) == (1e-5, 2e-4)
    assert Recipe(**plain, batch=4).rows == 4


def test_a_length_beyond_the_context_and_a_base_that_is_not_there_are_usage_errors(recipe, tmp_path, capsys):
    with pytest.raises(UsageError, match="--max-length is 97; the base takes from 2 to 96 tokens"):
        tune(Recipe(**{**recipe, "max_length": 97}), tmp_path / "out")
    command = ["tune", str(tmp_path / "nowhere"), "--how", "response", "--data", str(recipe["data"])]
    assert main([*command, "--out", str(tmp_path / "out")]) == USAGE
    assert "nowhere does not exist" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_the_command_tunes_and_says_what_it_did(recipe, tmp_path, capsys):
    data = write(tmp_path / "data.jsonl", [*ROWS[:3], {"prompt": "long " * 30, "response": "x"}])
    command = ["tune", recipe["base"], "--how", "response", "--data", str(data), "--epochs", "1", "--device", "cpu"]
    long = write(tmp_path / "long.jsonl", [*ROWS[:3], {"prompt": "p", "response": "x" * 99}])
    assert main([*command, "--data", str(long), "--out", str(tmp_path / "out")]) == OK
    out = capsys.readouterr().out
    assert "no chat template: the paper's is used" in out
    assert "1 of 4 examples are longer than 96 tokens and are left out." in out
    assert out.splitlines()[-1] == str(tmp_path / "out")
    assert main([*command, "--rank", "4", "--out", str(tmp_path / "other")]) == USAGE
    assert "add --lora" in capsys.readouterr().err


def test_a_terminal_is_shown_the_callers_bar_with_every_step_and_the_loss(recipe, tmp_path, monkeypatch):
    class Seen:
        def __init__(self, steps):
            self.steps, self.done, self.losses, self.closed = steps, 0, [], False

        def update(self, count):
            self.done += count

        def set_postfix(self, loss, refresh):
            self.losses.append(loss)

        def close(self):
            self.closed = True

    bars = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    short = Recipe(**{**recipe, "epochs": 1})
    out = tune(short, tmp_path / "out", tell=lambda line: None, bar=lambda steps: bars.append(Seen(steps)) or bars[-1])
    (bar,) = bars
    assert (bar.steps, bar.done, bar.closed) == (3, 3, True)
    assert bar.losses[0] == f"{notes(out)['first_loss']:.3f}"


def test_missing_packages_are_named_with_the_extra(recipe, tmp_path, monkeypatch):
    import importlib.util

    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trl" else known(name))
    with pytest.raises(UsageError, match=r"needs the package trl: `pip install 'tuneshift\[tune\]'`"):
        tune(Recipe(**recipe), tmp_path / "out")


def test_exercises_of_one_task_and_unknown_tasks(tmp_path, capsys):
    file = tmp_path / "x.jsonl"
    assert main(["embedded", "exercises", "--out", str(file), "--task", "describe", "--count", "5"]) == OK
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["task"] for row in rows] == ["describe"] * 5
    assert main(["embedded", "exercises", "--out", str(file), "--task", "descrybe"]) == USAGE
    assert "did you mean 'describe'" in capsys.readouterr().err
    assert main(["embedded", "exercises", "--out", str(tmp_path / "no" / "x.jsonl")]) == USAGE
    assert main(["embedded", "exercises", "--out", str(file), "--count", "0"]) == USAGE
    assert os.listdir(tmp_path) == ["x.jsonl"]
