"""`tuneshift.attribute`: one prompt of a model that the caller loaded, against the definition and the measure."""

from __future__ import annotations

import sys
import types
import webbrowser
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from tolerances import assert_near, terms

import tuneshift
from tuneshift import TuneshiftError, UsageError, attribute, instruction_score
from tuneshift.measures.attribution import html as attribution_html
from tuneshift.measures.attribution.density import importance_levels

PROMPT = "Name the colour. It is red."
TEMPLATE = "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"


def loaded(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def plain(make_checkpoint):
    """Model and tokenizer without a chat template."""
    return loaded(make_checkpoint("plain", seed=3))


@pytest.fixture(scope="module")
def chat(make_checkpoint):
    """Model and tokenizer with one."""
    return loaded(make_checkpoint("chat", seed=3, template=TEMPLATE))


def naive(model, prompt: list[int], response: list[int]) -> np.ndarray:
    """< d p(y_m) / d E[x_n], E[x_n] >, one derivative at a time."""
    embeddings = model.get_input_embeddings()(torch.tensor([prompt + response])).detach().requires_grad_(True)
    logits = model(inputs_embeds=embeddings).logits[0].softmax(-1)
    columns = []
    for m, token in enumerate(response):
        (gradient,) = torch.autograd.grad(logits[len(prompt) - 1 + m, token], embeddings, retain_graph=True)
        columns.append((gradient * embeddings)[0, : len(prompt)].sum(-1).detach().numpy())
    return np.stack(columns, axis=1)


@pytest.mark.numerics
def test_importance_is_the_definition(plain):
    model, tokenizer = plain
    found = attribute(model, tokenizer, PROMPT, "blue", instruction_spans=[(0, 16)])
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (PROMPT, " blue")]
    expected = naive(model, *ids)
    assert found.importance.shape == (len(PROMPT), 5)  # the tokenizer has a token for each byte
    assert_near(found.importance, expected, terms=2 * terms(model, len(PROMPT) + 5, passes=3))
    assert np.array_equal(found.levels, importance_levels(found.importance))
    assert "".join(found.tokens) == PROMPT
    assert "".join(found.response_tokens) == " blue"
    assert found.instruction.tolist() == [n < 16 and c != " " for n, c in enumerate(PROMPT)]
    assert instruction_score(found) > 0
    assert (found.response, found.ended) == ("blue", None)


def test_without_spans_no_token_is_an_instruction(plain):
    found = attribute(*plain, PROMPT, "blue")
    assert not found.instruction.any()
    assert instruction_score(found) is None


def test_without_a_response_the_model_gives_its_greedy_one(plain):
    model, tokenizer = plain
    found = attribute(model, tokenizer, PROMPT, max_new_tokens=9)
    ids = tokenizer(PROMPT, return_tensors="pt")
    made = model.generate(**ids, max_new_tokens=9, do_sample=False, eos_token_id=0, pad_token_id=0)[0, len(PROMPT) :]
    kept = made[: (made == 0).nonzero()[0]] if (made == 0).any() else made
    assert len(found.response_tokens) == len(kept)
    assert found.response == tokenizer.decode(kept, skip_special_tokens=True)
    assert found.ended == bool((made == 0).any())
    assert found.levels.shape == (len(PROMPT), len(kept))


def test_a_chat_template_is_the_tokenizers_own_unless_it_is_left_out(chat):
    in_chat, bare = attribute(*chat, PROMPT, "blue"), attribute(*chat, PROMPT, "blue", chat_template="none")
    assert in_chat.tokens == ("<u>", *PROMPT, "</u>", "<a>")
    assert in_chat.user.tolist() == [False, *[True] * len(PROMPT), False, False]
    assert "".join(bare.tokens) == PROMPT
    assert bare.user.all()
    assert in_chat.levels[~in_chat.user].sum() == 0
    assert in_chat.levels.max(axis=0).tolist() == [10] * in_chat.response_length
    assert in_chat.importance[0].any()
    assert attribute(*chat, PROMPT, "blue", chat_template=TEMPLATE).tokens == in_chat.tokens


def test_the_model_is_left_as_it_was(plain):
    model, tokenizer = plain
    model.train()
    before = (model.generation_config, [p.requires_grad for p in model.parameters()])
    attribute(model, tokenizer, PROMPT, max_new_tokens=3)
    assert model.training
    assert (model.generation_config, [p.requires_grad for p in model.parameters()]) == before
    assert all(p.grad is None for p in model.parameters())
    model.eval()


def test_a_model_in_training_answers_without_dropout(plain):
    model, tokenizer = plain
    expected = attribute(model, tokenizer, PROMPT, max_new_tokens=20)
    layers = [layer.self_attn for layer in model.model.layers]
    for layer in layers:
        layer.attention_dropout = 0.9
    model.train()
    found = attribute(model, tokenizer, PROMPT, max_new_tokens=20)
    model.eval()
    for layer in layers:
        layer.attention_dropout = 0.0
    assert found.response_tokens == expected.response_tokens
    assert np.array_equal(found.levels, expected.levels)


@pytest.mark.numerics
def test_it_is_what_the_measure_stores(tiny_base, tiny_tuned, tiny_prompts, tmp_path):
    """The same checkpoint, prompt and reference through a run: the same importance."""
    seen = {}

    def quantity(view):
        seen.update({i: a for i, a in view.attributions("base").items() if i not in seen})  # the deciding view first
        return tuneshift.paired(instruction_score, undefined="no instruction")(view)

    finding = tuneshift.Finding(
        id="mine.x", title="", claim="", source="", direction="greater", unit="score", sesoi=0.1, sesoi_reason="",
        how="", needs=(("base", "attribution"), ("tuned", "attribution"), ("base", "attribution.contrast"),
        ("tuned", "attribution.contrast")),
    )  # fmt: skip
    named = {"store": tmp_path, "response": "reference", "max_new_tokens": 12, "prompts": tiny_prompts}
    tuneshift.run(tiny_base, tiny_tuned, findings=(finding, quantity), **named)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(tiny_base) for kind in (AutoModelForCausalLM, AutoTokenizer))
    prompt = tuneshift.load_prompts(tiny_prompts).prompts[0]
    found = attribute(model, tokenizer, prompt.prompt, prompt.reference, instruction_spans=prompt.instruction_spans)
    stored = seen[prompt.id]
    assert_near(found.importance, stored.importance, terms=2 * terms(model, 96, passes=3))
    assert np.array_equal(found.levels, stored.levels)
    assert np.array_equal(found.instruction, stored.instruction)
    assert found.tokens == stored.tokens
    assert instruction_score(found) == instruction_score(stored)


@pytest.mark.parametrize(
    ("prompt", "response", "named", "said"),
    [
        ("", "blue", {}, "The prompt has no token"),
        (PROMPT, "", {"chat_template": TEMPLATE}, "The response has no token"),
        (3, None, {}, r"prompt is a text; got 3 \(int\)"),
        ("a", 3, {}, "response is a text, or None for the model's own; got 3"),
        ("a", "b", {"chat_template": 3}, "chat_template is a Jinja file, a template, 'none' or None; got 3"),
        ("a", "b", {"max_new_tokens": "9"}, "max_new_tokens is a number of tokens; got '9'"),
        ("a", "b", {"instruction_spans": (0, 1)}, r"instruction_spans is a list of \[start, end\).*; got 0 in it"),
        ("a", "b", {"instruction_spans": "ab"}, r"instruction_spans is a list of \[start, end\).*; got 'ab'"),
        ("a", "b", {"instruction_spans": [(0, 1.5)]}, r"got \(0, 1.5\) in it"),
        (PROMPT, "b" * 90, {}, "27 prompt tokens and 91 response tokens exceed the context of 96"),
        ("p" * 96, None, {}, "96 prompt tokens and 1 response tokens exceed"),
        (PROMPT, "blue", {"instruction_spans": [(3, 99)]}, r"instruction span \[3, 99\) lies outside .* 27 characters"),
        (PROMPT, None, {"max_new_tokens": 0}, "max_new_tokens is 0"),
    ],
)
def test_what_cannot_be_attributed_is_told(plain, prompt, response, named, said):
    with pytest.raises(UsageError, match=said):
        attribute(*plain, prompt, response, **named)


def test_what_is_no_language_model_is_told(plain):
    with pytest.raises(TuneshiftError, match=r"takes a language model of transformers.*got Linear"):
        attribute(torch.nn.Linear(2, 2), plain[1], PROMPT)


class Seen(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


HOSTILE = "<script>x</script><img src=a onerror='b'>\"\n"


def test_nothing_of_a_prompt_or_response_becomes_markup(plain):
    found = attribute(*plain, HOSTILE, "</p><b onclick=c>")
    for html in (found._repr_html_(), attribution_html.page(found)):
        page = Seen(html)
        assert not {"script", "img", "b onclick"} & set(page.tags)
        assert not [name for name in page.attributes if name.startswith("on")]
        assert "</p><b onclick=c>" in page.text
        assert page.tags.count("td") == len(found.tokens) * (1 + len(found.response_tokens))
    assert "http:" not in attribution_html.page(found).replace("http-equiv", "")


def test_the_page_says_what_its_tints_mean(plain, chat):
    html = attribute(*chat, PROMPT, "blue", instruction_spans=[(0, 4)])._repr_html_()
    assert "Underlined: the instruction." in html
    assert "Faint: tokens of the chat template." in html
    assert html.count('class="t i"') == 4
    assert html.count('class="t c"') == 3
    bare = attribute(*plain, PROMPT, "blue")._repr_html_()
    assert "Underlined" not in bare
    assert "Faint" not in bare


def test_a_long_map_is_cut_and_says_so(plain, monkeypatch):
    monkeypatch.setattr(attribution_html, "CELLS", 3 * len(PROMPT))
    found = attribute(*plain, PROMPT, "blue")
    assert "The first 3 of 5 response tokens." in found._repr_html_()
    assert Seen(found._repr_html_()).tags.count("td") == 4 * len(PROMPT)


def test_show_opens_a_page_in_the_browser(plain, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    found = attribute(*plain, PROMPT, "blue")
    path = found.show(tmp_path / "a.html")
    assert path == tmp_path / "a.html"
    assert path.read_text(encoding="utf-8") == attribution_html.page(found)
    other = found.show()
    assert other.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")
    assert opened == [path.as_uri(), other.as_uri()]
    other.unlink()


def test_show_displays_in_a_notebook(plain, monkeypatch):
    shown = []
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    display = types.ModuleType("IPython.display")
    display.HTML, display.display = str, shown.append
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    found = attribute(*plain, PROMPT, "blue")
    assert found.show() is None
    assert shown == [found._repr_html_()]


def test_its_repr_is_one_line(plain):
    found = attribute(*plain, PROMPT * 2, "blue")
    assert repr(found) == f"Attribution('{(PROMPT * 2)[:39]}…': 54 prompt tokens, 5 response tokens)"
