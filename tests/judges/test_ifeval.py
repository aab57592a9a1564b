"""The ifeval judge, each rule both ways and against lm-eval's own results; what is missing is named beforehand."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import types

import pytest

from tuneshift.errors import PromptError, UsageError
from tuneshift.judges import ifeval as judges_ifeval
from tuneshift.judges.base import Comparison
from tuneshift.judges.ifeval import check_ifeval
from tuneshift.judges.registry import make_judge
from tuneshift.prompts.prompt import Prompt, PromptSource
from tuneshift.prompts.sets import load_prompts

LANGUAGES = {"hello there my friend": "en", "guten tag mein freund": "de"}
SENTENCES = "length_constraints:number_sentences"
CAPITALS = "change_case:capital_word_frequency"


def stand_ins():
    """lm-eval's two small requirements, as far as the rules here use them: a frozen dict, a language by table."""
    frozen = types.ModuleType("immutabledict")
    frozen.immutabledict = types.MappingProxyType
    detector = types.ModuleType("langdetect")
    detector.DetectorFactory = type("DetectorFactory", (), {"seed": None})
    detector.LangDetectException = type("LangDetectException", (Exception,), {})
    detector.detect = lambda text: LANGUAGES[text.lower()]
    return {"immutabledict": frozen, "langdetect": detector}


@pytest.fixture
def rules(monkeypatch):
    """lm-eval's module of rules; where its extra is not installed, upon stand-ins for two packages."""
    pytest.importorskip("lm_eval")
    nltk = pytest.importorskip("nltk")
    absent = {name: it for name, it in stand_ins().items() if importlib.util.find_spec(name) is None}
    for name in [name for name in sys.modules if name.startswith("lm_eval.tasks.ifeval")] if absent else []:
        monkeypatch.delitem(sys.modules, name)
    for name, module in absent.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(nltk, "download", lambda *given, **named: pytest.fail("a download was begun"))
    yield judges_ifeval._lm_eval()
    # What was imported upon stand-ins must not outlive them.
    for name in [name for name in sys.modules if name.startswith("lm_eval.tasks.ifeval")] if absent else []:
        del sys.modules[name]


@pytest.fixture
def no_data(rules, monkeypatch, tmp_path):
    import nltk

    rules.instructions_registry.instructions.instructions_util._get_sentence_tokenizer.cache_clear()
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    return tmp_path


@pytest.fixture
def punkt(no_data):
    """NLTK's data, as empty as they can be: no abbreviations, no collocations."""
    folder = no_data / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True)
    for name in ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt"):
        (folder / name).write_text("")


def prompt(*instructions, key=7, text="Say it."):
    """A prompt with (instruction, arguments) pairs."""
    fields = {"key": key, "instruction_id_list": [n for n, _ in instructions], "kwargs": [k for _, k in instructions]}
    return Prompt(id=f"ifeval-{key}", prompt=text, instruction_spans=((0, len(text)),), fields=fields)


def scores(asked, first, second):
    return make_judge("ifeval").scores([Comparison(prompt=asked, first=first, second=second)])


CASES = [
    ("punctuation:no_comma", {}, "One two.", "One, two."),
    ("keywords:existence", {"keywords": ["zinc", "iron"]}, "Iron and zinc.", "Iron alone."),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, "Rocket.", "We will rock."),
    ("keywords:frequency", {"keyword": "war", "frequency": 2, "relation": "at least"}, "War, war.", "War."),
    ("keywords:letter_frequency", {"letter": "t", "let_frequency": 2, "let_relation": "less than"}, "to", "total"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "Two words.", "Now three words."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\ntwo", "One\n\ntwo"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<Song>> la", "Song: la"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] [address]", "[name]"),
    ("startend:end_checker", {"end_phrase": "The end."}, "So. The end.", "The end. So"),
    ("startend:quotation", {}, '"Quoted."', 'He said "so".'),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "Say it. It.", "It."),
    ("change_case:english_lowercase", {}, "hello there my friend", "Hello there my friend"),
    ("language:response_language", {"language": "de"}, "Guten Tag mein Freund", "Hello there my friend"),
]


@pytest.mark.parametrize(("name", "given", "right", "wrong"), CASES, ids=[case[0] for case in CASES])
def test_each_rule_both_ways_and_as_lm_eval_has_it(rules, monkeypatch, name, given, right, wrong):
    monkeypatch.setattr(sys.modules["langdetect"], "detect", lambda text: LANGUAGES.get(text.lower(), "fr"))
    asked = prompt((name, given))
    assert scores(asked, right, wrong) == [(1, 0)]
    assert scores(asked, wrong, right) == [(0, 1)]
    doc = {**asked.fields, "prompt": asked.prompt}
    own = [rules.process_results(doc, [text])["prompt_level_strict_acc"] for text in (right, wrong)]
    assert own == [True, False]


def test_a_response_follows_where_it_follows_all(rules):
    asked = prompt(("punctuation:no_comma", {}), ("detectable_format:title", {"num_words": None}))
    assert scores(asked, "<<Song>> la", "<<Song>> la, la") == [(1, 0)]
    assert scores(asked, "la", "") == [(0, 0)]


def test_it_is_strict_where_lm_evals_loose_score_is_not(rules):
    asked = prompt(("startend:end_checker", {"end_phrase": "The end."}))
    response = "So. The end.\nHope this helps!"
    doc = {**asked.fields, "prompt": asked.prompt}
    assert rules.process_results(doc, [response])["prompt_level_loose_acc"]
    assert scores(asked, response, response) == [(0, 0)]


def test_it_scores_each_response_by_itself_and_leaves_other_prompts_out(rules):
    judge = make_judge("ifeval")
    other = Prompt(id="p", prompt="Hi.", instruction_spans=((0, 3),))
    asked = prompt(("punctuation:no_comma", {}))
    items = [Comparison(prompt=p, first="a", second="b") for p in (other, asked)]
    assert judge.scores(items) == [None, (1, 1)]
    assert not judge.pairwise
    assert set(judge.identity["packages"]) == {"lm_eval", "langdetect", "nltk"}
    assert json.loads(json.dumps(judge.identity)) == judge.identity


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("detectable_format:number_bullet_lists", {}),
        ("detectable_format:number_bullet_lists", {"num_bullets": None}),
        ("detectable_format:number_bullet_lists", {"num_bullets": 0}),
        ("keywords:existence", {}),
        # lm-eval counts a letter of its own choice for anything but a to z, as in the published keys 1122 and 1129
        ("keywords:letter_frequency", {"letter": "#", "let_frequency": 4, "let_relation": "at least"}),
    ],
)
def test_rules_that_lm_eval_would_draw_have_no_score(rules, name, given):
    random.seed(5)
    wanted = random.random()
    random.seed(5)
    assert scores(prompt((name, given)), "* a", "#### #") == [None]
    assert random.random() == wanted


def test_the_language_detector_is_seeded(rules):
    assert sys.modules["langdetect"].DetectorFactory.seed == 0


# before anything is generated


def test_an_unknown_instruction_names_the_close_one(rules):
    with pytest.raises(UsageError, match=r"'ifeval-7': .*'punctuation:no_coma'; did you mean 'punctuation:no_comma'"):
        check_ifeval([prompt(("punctuation:no_coma", {}))])


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("length_constraints:number_words", {"num_words": 3, "relation": "more than"}, "relation"),
        ("length_constraints:number_words", {"words": 3}, "TypeError"),
        ("length_constraints:number_words", {"num_words": "3", "relation": "at least"}, "TypeError"),
        ("keywords:existence", {"keywords": ["*("]}, "nothing to repeat"),
    ],
)
def test_arguments_that_lm_eval_cannot_use_are_refused(rules, name, given, reason):
    with pytest.raises(UsageError, match=rf"prompt 'ifeval-7': lm-eval cannot judge by its kwargs .*{reason}"):
        check_ifeval([prompt((name, given))])


@pytest.mark.parametrize(
    ("name", "given"),
    [
        (SENTENCES, {"num_sentences": 2, "relation": "at least"}),
        (CAPITALS, {"capital_frequency": 2, "capital_relation": "at least"}),
    ],
)
def test_missing_sentence_data_are_named_with_their_command(no_data, name, given):
    plain, asked = prompt(("punctuation:no_comma", {}), key=1), prompt((name, given), key=2)
    check_ifeval([plain])
    with pytest.raises(UsageError, match=r"^1 of 2 .*'ifeval-2'.*: python -m nltk.downloader punkt_tab$"):
        check_ifeval([plain, asked])
    with pytest.raises(UsageError, match="punkt_tab"):
        scores(asked, "A.", "B.")


def test_only_the_named_rules_need_data(no_data):
    import nltk

    # NEED_PUNKT is by hand: every other rule works without data
    for name, given, right, _ in CASES:
        assert name not in judges_ifeval.NEED_PUNKT
        if "lower" not in name and "language" not in name:
            assert scores(prompt((name, given)), right, right) == [(1, 1)]
    with pytest.raises(LookupError):
        nltk.data.find("tokenizers/punkt_tab/english/")


def test_with_the_data_sentences_and_capitals_are_counted(punkt):
    asked = prompt((SENTENCES, {"num_sentences": 2, "relation": "at least"}))
    assert scores(asked, "It is so. It was.", "It is so.") == [(1, 0)]
    asked = prompt((CAPITALS, {"capital_frequency": 2, "capital_relation": "at least"}))
    assert scores(asked, "A BIG one.", "One big.") == [(1, 0)]


@pytest.mark.parametrize("missing", ["lm_eval", "lm_eval.tasks.ifeval.utils", "langdetect"])
def test_what_is_not_installed_is_named_with_its_command(rules, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    if missing != "langdetect":
        for name in [name for name in sys.modules if name.startswith("lm_eval.tasks.ifeval")]:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"ifeval: .*{missing}.*; pip install 'tuneshift\[ifeval\]'$"):
        check_ifeval([prompt(("punctuation:no_comma", {}))])


def test_without_instructions_nothing_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    check_ifeval([Prompt(id="p", prompt="Hi.", instruction_spans=((0, 3),))])


@pytest.mark.parametrize("rank", [None, "0", "3"])
def test_the_local_rank_is_left_as_it_was(rules, monkeypatch, rank):
    import os

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    judges_ifeval._lm_eval()
    assert os.environ.get("LOCAL_RANK") == rank


# the form


LINE = {"key": 1000, "prompt": "Say it. É", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


def read(folder, *lines):
    path = folder / "set.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return load_prompts(PromptSource(path=str(path)), pair=None).prompts


def test_a_line_in_ifevals_form_is_taken_as_it_is(tmp_path):
    (found,) = read(tmp_path, LINE)
    assert (found.id, found.instruction_spans) == ("ifeval-1000", ((0, 9),))
    assert found.fields == {"key": 1000, "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


def test_its_own_id_spans_and_other_fields_stay(tmp_path):
    given = {"id": "a", "instruction_spans": [[0, 3]], "cluster": "c", "reference": "It."}
    (found,) = read(tmp_path, {**LINE, **given})
    assert (found.id, found.instruction_spans, found.cluster, found.reference) == ("a", ((0, 3),), "c", "It.")
    keyless = {name: value for name, value in LINE.items() if name != "key"}
    assert read(tmp_path, {**keyless, "id": "b"})[0].id == "b"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kwargs": [{}, {}]}, "'kwargs' has 2 objects for 1 instructions"),
        ({"kwargs": []}, "'kwargs' has 0 objects for 1 instructions"),
        ({"kwargs": {}}, "'kwargs' is a list of objects, one per instruction, got {}"),
        ({"kwargs": [3]}, r"'kwargs' is a list of objects, one per instruction, got \[3\]"),
        ({"kwargs": None}, "'kwargs' is a list of objects, one per instruction, got None"),
        ({"instruction_id_list": []}, r"'instruction_id_list' is a list of strings that is not empty, got \[\]"),
        ({"instruction_id_list": [3]}, "'instruction_id_list' is a list of strings"),
        ({"instruction_id_list": "punctuation:no_comma"}, "'instruction_id_list' is a list of strings"),
        ({"key": None}, "'key' is a whole number or a string where there is no 'id', got None"),
        ({"key": True}, "'key' is a whole number or a string"),
        ({"key": 1.5}, "'key' is a whole number or a string"),
        ({"prompt": 3}, "'prompt' is a string, got 3"),
        ({"prompt": " "}, "the prompt is empty"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_line(tmp_path, change, expected):
    with pytest.raises(PromptError, match=rf"set\.jsonl:2: {expected}"):
        read(tmp_path, {**LINE, "key": 1}, {**LINE, **change})


def test_two_lines_of_one_key_are_refused(tmp_path):
    with pytest.raises(PromptError, match=r"set\.jsonl:2: id 'ifeval-1000' is already that of line 1"):
        read(tmp_path, LINE, LINE)
