"""The card's numbers against naive definitions."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from tolerances import assert_near, terms

from tuneshift.embedded.evaluate import begins_right, collate, measure, ranking, respond, response_logprobs, share
from tuneshift.embedded.siblings import chat_ids

pytestmark = pytest.mark.numerics


@pytest.fixture(scope="module")
def checkpoint(tiny_tuned: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_tuned)
    tokenizer.bos_token = tokenizer.eos_token
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}:"
    return AutoModelForCausalLM.from_pretrained(tiny_tuned, dtype=torch.float32), tokenizer


def test_share_without_clusters_is_the_textbook_interval() -> None:
    hits = [True] * 30 + [False] * 70
    found = share(hits, [str(i) for i in range(100)])
    error = float(np.std(hits, ddof=1)) / 10
    assert found.mean == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.3 - 1.96 * error, 0.3 + 1.96 * error))
    assert (found.n, found.clusters) == (100, 100)


def test_doubling_every_item_inside_its_cluster_narrows_nothing() -> None:
    rng = Random(0)
    hits = [rng.random() < 0.4 for _ in range(80)]
    names = [str(i) for i in range(80)]
    one, two = share(hits, names), share(hits * 2, names * 2)
    assert (two.low, two.high) == pytest.approx((one.low, one.high))
    assert share(hits * 2, [str(i) for i in range(160)]).high < one.high


def test_share_stays_in_its_range() -> None:
    names = [str(i) for i in range(10)]
    found, none = share([True] * 10, names), share([False] * 10, names)
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(binomtest(10, 10).proportion_ci(0.95, "exact").low)
    assert (none.mean, none.low, none.high) == pytest.approx((0.0, 0.0, 1 - found.low))
    assert share([True] + [False] * 9, [str(i) for i in range(10)]).low == 0.0


def test_batched_greedy_is_the_naive_loop(checkpoint: tuple[Any, Any]) -> None:
    model, tokenizer = checkpoint
    prompts = [[10, 11], [12, 13, 14, 15, 16], [20]]
    answers = respond(model, tokenizer, prompts, limit=12, rows=2)
    for prompt, (text, ended) in zip(prompts, answers, strict=True):
        ids = list(prompt)
        while len(ids) < len(prompt) + 12:
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        assert ended == (ids[-1] == tokenizer.eos_token_id)
        assert text == tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)


def test_collate_labels_the_response_alone() -> None:
    ids, mask, labels = collate([([5, 6], [7, 2]), ([8], [9, 10, 11, 2])], pad=0)
    assert ids.tolist() == [[5, 6, 7, 2, 0], [8, 9, 10, 11, 2]]
    assert mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert labels.tolist() == [[-100, -100, 7, 2, -100], [-100, 9, 10, 11, 2]]


def test_response_logprobs_are_sums_over_response_tokens(checkpoint: tuple[Any, Any]) -> None:
    model, tokenizer = checkpoint
    rows = [([10, 11], [12, 13]), ([14], [15, 16, 17])]
    found = response_logprobs(model, rows, tokenizer.pad_token_id)
    for (prompt, response), value in zip(rows, found, strict=True):
        with torch.no_grad():
            logprobs = model(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        naive = sum(float(logprobs[len(prompt) + i - 1, token]) for i, token in enumerate(response))
        assert_near(value, naive, terms=2 * terms(model, 6) + len(response))


def rows_for(tokenizer: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": f"p{i}",
            "task": "say",
            "prompt": prompt,
            "topic": prompt,
            "reference": "xyz"[i],
            "verify": {"kind": "regex", "pattern": ""},
        }
        for i, prompt in enumerate(("one", "two", "three"))
    ]


def test_correct_needs_an_end(checkpoint: tuple[Any, Any]) -> None:
    model, tokenizer = checkpoint
    rows = rows_for(tokenizer)
    shares, responses = measure(model, tokenizer, rows, limit=8)
    assert [row["correct"] for row in responses] == [row["ended"] for row in responses]
    assert shares["correct"].mean == shares["ended"].mean
    assert shares["on_task"].mean == 1.0


def test_a_right_beginning_counts_whatever_follows() -> None:
    spec = {"kind": "exact", "answers": ["An owl is a bird."]}
    assert begins_right(spec, "An owl is a bird.\n<Anna>\nWhat is a cod?")
    assert not begins_right(spec, "A cod is a fish.\nAn owl is a bird.")
    assert not begins_right(spec, "")
    letter = {"kind": "sequence", "answers": ["dear Tom", "yours"]}
    assert begins_right(letter, "Dear Tom,\nAll is well.\nYours,\nAnna\n[Tom]\nThank you.")


def test_ranking_compares_with_another_prompts_reference(checkpoint: tuple[Any, Any]) -> None:
    model, tokenizer = checkpoint
    rows = rows_for(tokenizer)[:2]
    ids = [chat_ids(tokenizer, row["prompt"]) for row in rows]
    responses = [[*tokenizer(row["reference"])["input_ids"], tokenizer.eos_token_id] for row in rows]
    own = response_logprobs(model, list(zip(ids, responses, strict=True)), tokenizer.pad_token_id)
    other = response_logprobs(model, list(zip(ids, responses[::-1], strict=True)), tokenizer.pad_token_id)
    wins = [x > y for x, y in zip(own, other, strict=True)]
    assert ranking(model, tokenizer, rows, seed=0).mean == pytest.approx(float(np.mean(wins)))
