"""A local checkpoint that is asked: in its template, each question once, loaded once, one in memory."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import tuneshift.checkpoints.loading
from tuneshift.chat.checkpoint import LocalChat, greedy_answers
from tuneshift.checkpoints.loading import give_way, load, loaded
from tuneshift.errors import CheckpointError, PairError, StoreError

USER_TAG = "{% for m in messages %}<u>{{ m['content'] }}</u>{% endfor %}<a>"


@pytest.fixture
def chat(make_checkpoint, tmp_path):
    yield LocalChat(
        spec=str(make_checkpoint("chat", seed=3, template=USER_TAG)),
        asked_as="judge hf",
        cache=tmp_path / "answers",
        max_tokens=5,
        device="cpu",
    )
    give_way()


@pytest.fixture
def loads(monkeypatch):
    """Names of the checkpoints that were loaded, in order."""
    made = []
    honest = tuneshift.checkpoints.loading.load
    monkeypatch.setattr(
        tuneshift.checkpoints.loading, "load", lambda ref, **how: made.append(ref.name) or honest(ref, **how)
    )
    return made


def test_it_answers_greedily_in_its_chat_template(chat):
    from tuneshift.checkpoints.decoding import greedy_responses
    from tuneshift.prompts.tokens import encode

    with load(chat.ref, device="cpu") as checkpoint:
        ids = [encode(text, checkpoint.tokenizer, USER_TAG).ids for text in ("one", "two")]
        wanted = [r.text for r in greedy_responses(checkpoint, ids, max_new_tokens=5)]
        # the second does not fit the context of 96
        asked = ["one", "long " * 30, "two"]
        assert greedy_answers(checkpoint, asked, max_new_tokens=5) == [wanted[0], "", wanted[1]]
    assert chat.ask_all(["one", "two"]) == wanted


def test_it_is_loaded_once_and_never_for_questions_that_were_answered(chat, loads):
    first = chat.ask_all(["one", "two"])
    assert chat.ask_all(["three"])[0] != ""
    assert len(loads) == 1
    give_way()
    again = replace(chat)  # another process, say
    assert again.ask_all(["two", "one", "two"]) == [first[1], first[0], first[1]]
    assert len(loads) == 1


def test_a_damaged_answer_is_asked_for_again(chat, loads):
    wanted = chat.ask_all(["one"])
    (file,) = chat.cache.rglob("*.json")
    assert json.loads(file.read_text())["answer"] == wanted[0]
    file.write_text("{")
    give_way()
    assert replace(chat).ask_all(["one"]) == wanted
    assert len(loads) == 2


def test_it_gives_way_to_the_next_checkpoint_and_never_joins_one_that_is_loaded(chat, tiny_base):
    chat.ask_all(["one"])
    kept = loaded(chat.ref, device="cpu")
    with load(replace(chat, spec=str(tiny_base)).ref, device="cpu"):
        assert all(parameter.numel() == 0 for parameter in kept.model.parameters())
        with pytest.raises(CheckpointError, match="while another is loaded"):
            chat.ask_all(["two"])
    assert len(chat.ask_all(["two"])) == 1


def test_its_identity_is_what_decides_an_answer(chat, make_checkpoint, tmp_path):
    def identity(seed: int = 3, template: str | None = USER_TAG, **other):
        folder = make_checkpoint("chat", seed=seed, template=template)
        return replace(chat, spec=str(folder), **other).identity

    assert identity() == chat.identity == replace(chat, cache=tmp_path, asked_as="annotator hf").identity
    assert identity(template=None)["chat_template"] is None
    others = [
        identity(seed=4), identity(template=USER_TAG + " "), identity(template=None), identity(dtype="float64"),
        identity(max_tokens=6),
    ]  # fmt: skip
    assert all(other != chat.identity for other in others)
    assert len({json.dumps(dict(other)) for other in others}) == len(others)


def test_answers_of_another_template_are_not_taken(chat, make_checkpoint, loads):
    chat.ask_all(["one"])
    other = make_checkpoint("other-template", seed=3, template="{{ messages[0].content }}!")
    replace(chat, spec=str(other)).ask_all(["one"])
    assert len(loads) == 2


def test_an_answer_that_cannot_be_kept_is_an_error(chat, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be kept in"):
        replace(chat, cache=tmp_path / "file").ask_all(["one"])


def test_what_is_no_checkpoint_is_named_by_who_asks(chat):
    with pytest.raises(PairError, match=r"judge hf: './nowhere' is neither a folder"):
        replace(chat, spec="./nowhere").ask_all(["one"])
