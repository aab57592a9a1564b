"""Where responses end: identical weights stop at the same tokens whatever their configurations say."""

from __future__ import annotations

import json
import shutil

import pytest

from tuneshift.checkpoints.loading import load
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.measures.catalogue import GENERATION
from tuneshift.prompts.chat import ChatFormat
from tuneshift.prompts.ends import response_ends
from tuneshift.prompts.prompt import Prompt
from tuneshift.readings import Readings

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
CHAT = ChatFormat(template=CHATML)
END, START, IM_END = 0, 260, 261
PROMPTS = [Prompt(id=str(i), prompt=f"Say {i}.", instruction_spans=()) for i in range(12)]


@pytest.fixture(scope="module")
def saved(make_checkpoint, tmp_path_factory):
    """One set of weights under generation configurations with these end tokens."""
    first = make_checkpoint("one", seed=3, extra_tokens=("<|im_start|>", "<|im_end|>"))

    def save(name, ends):
        folder = tmp_path_factory.mktemp("ends") / name
        shutil.copytree(first, folder)
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        return ModelRef(name=name, model=str(folder))

    return save


def test_the_templates_end_of_a_turn_and_both_sides_ends_join_on_both_sides(saved, tmp_path):
    base, tuned = saved("base", [END]), saved("tuned", [END, START])
    kept = Readings(tmp_path / "readings.json")
    for _ in range(2):
        assert response_ends(base, (base, tuned), CHAT, kept) == (END, START, IM_END)
        assert response_ends(tuned, (base, tuned), CHAT, kept) == (END, START, IM_END)
        assert response_ends(base, (base,), None, kept) == (END,)
        assert response_ends(base, (base, tuned), None, kept) == (END, START)


def test_an_end_that_a_vocabulary_lacks_ends_nothing_there(saved, tiny_base):
    plain, tuned = ModelRef(name="plain", model=str(tiny_base)), saved("tuned", [END, START])
    assert response_ends(plain, (plain, tuned), CHAT, Readings()) == (END,)


def test_identical_weights_give_identical_responses(saved):
    # A token that the weights do write, so that the configurations would differ in where they stop.
    refs = saved("a", [END]), saved("b", [END, IM_END])
    params = {"chat_template": CHATML, "max_new_tokens": 24, "thinking": None}
    own, shared = [], []
    for ref in refs:
        with load(ref, device="cpu") as checkpoint:
            bias_towards(checkpoint.model, IM_END)
            ends = list(response_ends(ref, refs, CHAT, Readings()))
            for found, more in ((own, {}), (shared, {"ends": ends})):
                items = list(GENERATION.prepare(checkpoint, {**params, **more})(PROMPTS, [None] * len(PROMPTS)))
                found.append([(item.arrays["response_ids"].tolist(), item.values["ended"]) for item in items])
    assert own[0] != own[1]  # else the test could not fail
    assert shared[0] == shared[1]
    assert all(ended for _, ended in shared[0])


def test_the_end_rule_scores_the_templates_end_of_a_turn(saved):
    rules = {"end": {"score": 4000.0, "steps": 4}, "uniform": None, "diversity": None}
    params = {"chat_template": CHATML, "max_new_tokens": 3, "ends": [END], "rules": rules, "present": "turn"}
    with load(saved("ruled", [END]), device="cpu") as checkpoint:
        items = list(GENERATION.prepare(checkpoint, params)(PROMPTS, [None] * len(PROMPTS)))
    # At t = 0 it scores nothing, from t = 1 on a thousand nats and more; with it among the ends it would end there.
    assert [item.arrays["response_ids"].tolist()[1:] for item in items] == [[IM_END] * 2] * len(PROMPTS)


def bias_towards(model, token):
    """The token wins wherever the final hidden state's first entry is positive."""
    import torch

    with torch.no_grad():
        model.lm_head.weight[token] = 0.0
        model.lm_head.weight[token, :4] = 3.0 * model.lm_head.weight.abs().max()
