"""Chat templates are programs of others: whatever they do is a PairError, within a time, a length and some memory."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from tuneshift.errors import PairError
from tuneshift.prompts import rendering as chat_rendering
from tuneshift.prompts.rendering import render_limited

TURNS = [{"role": "user", "content": "Name a colour."}]
SLOW = "{% for i in range(99999) %}{% for j in range(99999) %}{% if j < 0 %}x{% endif %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))


def test_a_template_is_rendered_as_transformers_does(tokenizer) -> None:
    template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    )
    assert render_limited(TURNS, tokenizer, template, opened=True) == "<user>Name a colour.<a>"
    assert render_limited(TURNS, tokenizer, template, opened=False) == "<user>Name a colour."


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{{ 2.0 ** 5000 }}", "OverflowError"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "RecursionError"),
        ("{{ [1][9] + 1 }}", "UndefinedError"),
        ("{{ {}.pop() }}", "SecurityError|TypeError"),
        ("{{ '%d' % 'x' }}", "TypeError"),
        ("{{ raise_exception('a\\n::error::b\\x1b[31m') }}", r"a ::error::b<U\+001B>\[31m\."),
        ("{{ 'x' * 3000000 }}", "writes 3,000,000 characters, and at most 1,000,028 are accepted"),
    ],
)
def test_whatever_a_template_raises_is_a_pair_error(tokenizer, template: str, said: str) -> None:
    with pytest.raises(PairError, match=rf"^the chat template cannot be rendered: .*({said})") as error:
        render_limited(TURNS, tokenizer, template, opened=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("inside", ["the main thread", "another thread"])
def test_a_template_without_end_is_stopped(tokenizer, inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_rendering, "SECONDS", 0.3)
    caught: list[PairError] = []

    def render() -> None:
        try:
            render_limited(TURNS, tokenizer, SLOW, opened=True)
        except PairError as error:
            caught.append(error)

    before = time.monotonic()
    if inside == "the main thread":
        render()
    else:
        thread = threading.Thread(target=render)
        thread.start()
        thread.join()
    assert "takes longer than 0.3 s" in str(caught[0])
    assert time.monotonic() - before < 30
    assert render_limited(TURNS, tokenizer, "{{ messages[0].content }}", opened=True) == "Name a colour."


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited on Linux only")
def test_a_template_that_asks_for_all_memory_is_refused(tokenizer) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(PairError, match="more memory than there is, or than 1 GiB"):
        render_limited(TURNS, tokenizer, "{% set n = 4000000000 %}{{ 'x' * n }}", opened=True)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_message_that_ends_in_a_stop_gets_no_second_one(tokenizer) -> None:
    with pytest.raises(PairError, match=r"Range too big\..* \(100000\)\. Correct it"):
        render_limited(TURNS, tokenizer, "{% for i in range(10**7) %}{% endfor %}", opened=True)
