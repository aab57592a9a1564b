"""Chat formats: one day and one set of variables, whatever day it is, and back from the parameters of a key."""

from __future__ import annotations

from datetime import date, datetime

import pytest
import transformers.utils.chat_template_utils as utils
from transformers import AutoTokenizer

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.prompts.chat import (
    CHAT_DATE,
    PAPER_FORMAT,
    PLAIN_FORMAT,
    ChatFormat,
    chat_of,
    chat_params,
    render_chat,
    same_format,
)
from tuneshift.prompts.tokens import encode
from tuneshift.readings import Readings

LLAMA = (
    "{%- if not date_string is defined %}\n"
    "    {%- if strftime_now is defined %}\n"
    '        {%- set date_string = strftime_now("%d %b %Y") %}\n'
    "    {%- else %}\n"
    '        {%- set date_string = "26 Jul 2024" %}\n'
    "    {%- endif %}\n"
    "{%- endif %}\n"
    "Today Date: {{ date_string }}\n{{ messages[0].content }}"
)
"""As Llama 3.2's template writes the day."""
USER = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def tokenizer(make_checkpoint):
    return AutoTokenizer.from_pretrained(make_checkpoint("chat"))


@pytest.fixture
def on(monkeypatch):
    """Sets the day that transformers' own ``strftime_now`` sees."""

    def set_day(day: str) -> None:
        class Day(datetime):
            @classmethod
            def now(cls, tz=None):
                return cls.fromisoformat(day)

        monkeypatch.setattr(utils, "datetime", Day)

    return set_day


TURNS = [*USER, {"role": "assistant", "content": "Hello."}]


@pytest.mark.parametrize(
    ("template", "asked", "answered"),
    [
        (PLAIN_FORMAT, "Question: hi\nAnswer:", "Question: hi\nAnswer: Hello.\n"),
        (PAPER_FORMAT, "<|user|>\nhi\n<|assistant|>\n", "<|user|>\nhi\n<|assistant|>\nHello.<end>"),
    ],
    ids=["plain", "paper"],
)
def test_the_other_formats_of_the_base(tokenizer, template, asked, answered):
    assert render_chat(USER, tokenizer, template) == asked
    assert render_chat(TURNS, tokenizer, template, opened=False) == answered
    encoded = encode("hi", tokenizer, template)
    assert "".join(token for token, own in zip(encoded.tokens, encoded.in_text, strict=True) if own) == "hi"


def test_formats_that_write_alike_are_the_same_whatever_their_text(make_checkpoint):
    folder = make_checkpoint("same")
    ref = ModelRef(name="m", model=str(folder))
    tags = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
    alike = ChatFormat(template=tags + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}")
    paper, plain = ChatFormat(template=PAPER_FORMAT), ChatFormat(template=PLAIN_FORMAT)
    assert same_format(ref, paper, alike, Readings())  # both answers end on the tokenizer's end token
    assert not same_format(ref, paper, plain, Readings())
    other_end = ChatFormat(
        template=PAPER_FORMAT.replace("eos_token if", "'</u>' if")  # another token after the answer
    )
    assert not same_format(ref, paper, other_end, Readings())
    assert not same_format(ref, paper, None, Readings())
    assert same_format(ref, None, None, Readings())


def test_a_prompt_has_the_same_tokens_on_any_day(tokenizer, on):
    template = "{{ strftime_now('%Y-%m-%d') }} {{ messages[0].content }}"
    texts = []
    for day in ("2026-11-29", "2027-01-02"):
        on(day)
        assert tokenizer.apply_chat_template(USER, chat_template=template, tokenize=False).startswith(day)
        texts.append("".join(encode("hi", tokenizer, ChatFormat(template=template)).tokens))
    assert texts == ["2024-07-26 hi"] * 2
    assert CHAT_DATE.isoformat() == "2024-07-26"


def test_a_pair_sets_the_day_and_templates_write_it_as_they_do(tokenizer):
    assert render_chat(USER, tokenizer, LLAMA) == "Today Date: 26 Jul 2024\nhi"
    chat = ChatFormat(template=LLAMA, day=date(2025, 3, 1))
    assert render_chat(USER, tokenizer, chat) == "Today Date: 01 Mar 2025\nhi"
    forms = "%B %-d, %Y|%A %j 100%%|%H:%M"
    written = ChatFormat(template=f"{{{{ strftime_now('{forms}') }}}}", day=date(2025, 3, 1))
    assert render_chat(USER, tokenizer, written) == datetime(2025, 3, 1).strftime(forms)
    inside = "{% macro day() %}{{ strftime_now('%Y') }}{% endmacro %}{% for m in messages %}{{ day() }}{% endfor %}"
    assert render_chat(USER, tokenizer, ChatFormat(template=inside)) == "2024"


@pytest.mark.parametrize("head", ["", "\n", "\n\n  ", "  {% if true %}\n x{% endif %}\n", "{#- a comment -#}\n"])
def test_stopping_the_clock_changes_nothing_but_the_day(tokenizer, on, head):
    on("2024-07-26")
    template = head + "{{ messages[0].content }}{{ strftime_now('%Y') }}\n"
    theirs = tokenizer.apply_chat_template(USER, chat_template=template, tokenize=False)
    assert render_chat(USER, tokenizer, template) == theirs


def test_variables_reach_the_template_and_the_key(tokenizer):
    template = "{{ messages[0].content }}{% if enable_thinking is defined and enable_thinking is false %}!{% endif %}"
    asked = ChatFormat(template=template, variables={"enable_thinking": False})
    assert render_chat(USER, tokenizer, asked) == "hi!"
    assert render_chat(USER, tokenizer, template) == "hi"
    assert chat_params(asked) != chat_params(ChatFormat(template=template))
    assert chat_of(chat_params(asked)) == asked


def test_the_day_is_part_of_a_key_where_the_text_may_depend_on_it_and_nowhere_else():
    days = (CHAT_DATE, date(2025, 3, 1))
    dated, plain = ([chat_params(ChatFormat(template=t, day=day)) for day in days] for t in (LLAMA, "{{ messages }}"))
    assert [p["chat_date"] for p in dated] == ["2024-07-26", "2025-03-01"]
    assert chat_of(dated[1]) == ChatFormat(template=LLAMA, day=days[1])
    assert plain[0] == plain[1] == {"chat_template": "{{ messages }}", "chat_date": None, "chat_template_kwargs": {}}
    assert chat_params(None) == {"chat_template": None, "chat_date": None, "chat_template_kwargs": {}}
    assert chat_of(chat_params(None)) is None
