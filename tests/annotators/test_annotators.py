"""Annotators: what they say of planted lists, of noise, of lists that cannot be read, and when they are down."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from chat_stub import Stub, completion, failure
from scipy.stats import binom
from tolerances import rounding

from tuneshift.annotators import embedding as annotators_embedding
from tuneshift.annotators import prompted as annotators_prompted
from tuneshift.annotators.base import LEVELS, TASKS, Label
from tuneshift.annotators.embedding import EmbeddingAnnotator
from tuneshift.annotators.prompted import AGAIN, INSTRUCTION, SEEDS, EndpointAnnotator, parse_label
from tuneshift.annotators.registry import make_annotator
from tuneshift.annotators.spelling import categories, morphological, phonological, syntactic
from tuneshift.chat.endpoint import ChatEndpoint
from tuneshift.errors import EndpointError, PairError, UsageError, WordError
from tuneshift.words.vocabulary import frequent_words

TOPICS = {
    "writing": ["booklet", "leaflet", "memo", "column", "verdict", "preface", "remark", "caption", "slogan", "credits"],
    "math": ["abacus", "tally", "quota", "margin", "ledger", "score", "median", "index", "cosine", "surplus"],
    "neither": ["otter", "heron", "badger", "lizard", "falcon", "beetle", "pigeon", "donkey", "turtle", "salmon"],
}
FILLER = frequent_words(2600)[100:]


def write_space(path, *, seed=0, tasks=("writing", "math")):
    """Random vectors for 2,500 frequent words; the seed words of ``tasks`` and three topics each around an axis."""
    rng = np.random.default_rng(seed)
    axes = {"writing": 0, "math": 1, "neither": 2}
    every = {w for text in categories()["tasks"].values() for w in text.split()}
    rows = {w: rng.normal(size=32) for w in FILLER if w not in every}
    for topic, axis in axes.items():
        seeds = categories()["tasks"][topic].split() if topic in tasks else []
        for word in [*TOPICS[topic], *seeds]:
            rows[word] = 0.5 * rng.normal(size=32) + 6 * np.eye(32)[axis]
    lines = [f"{w} {' '.join(f'{x:.5f}' for x in v)}" for w, v in rows.items()]
    path.write_text(f"{len(rows)} 32\n" + "\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return write_space(tmp_path_factory.mktemp("space") / "words.txt")


@pytest.fixture(scope="module")
def embedding(space):
    return EmbeddingAnnotator(space)


def one(annotator, words):
    return annotator.annotate([words], 0)[0]


def test_a_label_takes_known_names_only():
    with pytest.raises(ValueError, match="'poetry' is no task; accepted are writing, coding, math, translation"):
        Label(tasks=frozenset({"poetry"}))
    with pytest.raises(ValueError, match="'style' is no level; accepted are phonology"):
        Label(level="style")


@pytest.mark.parametrize("spec", ["embeding", "", "openai", "gpt-4o"])
def test_an_unknown_annotator_lists_the_known(spec):
    with pytest.raises(UsageError, match=r"no annotator is called .*embedding, hf:CHECKPOINT, openai:MODEL@URL"):
        make_annotator(spec)


# embedding: tasks and meaning


@pytest.mark.parametrize(
    ("topic", "tasks"), [("writing", {"writing"}), ("math", {"math"}), ("neither", set())]
)  # fmt: skip
def test_a_planted_topic_is_found(embedding, topic, tasks):
    assert one(embedding, TOPICS[topic]) == Label(tasks=frozenset(tasks), level="semantics")


def test_intruders_do_not_hide_it(embedding):
    noise = list(frequent_words(300)[200:206])
    assert one(embedding, TOPICS["writing"] + noise) == Label(tasks=frozenset({"writing"}), level="semantics")


def test_several_tasks_may_hold(embedding):
    assert one(embedding, TOPICS["writing"] + TOPICS["math"]).tasks == {"writing", "math"}


@pytest.mark.numerics
def test_the_order_of_words_and_repeats_do_not_matter(embedding):
    words = TOPICS["math"]
    assert embedding.strengths([words])[0].tasks["math"] == pytest.approx(
        embedding.strengths([[*reversed(words), *words]])[0].tasks["math"]
    )


def test_random_lists_seldom_get_a_label(embedding):
    # other draws than those that the thresholds rest on
    rng = np.random.default_rng(7)
    words = FILLER
    lists = [[words[i] for i in rng.choice(len(words), 12, replace=False)] for _ in range(200)]
    labels = embedding.annotate(lists, 0)
    assert sum(label.level is not None for label in labels) <= 10
    assert sum(bool(label.tasks) for label in labels) <= 10


def test_a_category_without_seed_words_is_never_assigned_and_says_so(embedding, tmp_path):
    (note,) = embedding.notes()
    assert "fewer than 5 seed words of coding, translation" in note
    assert "coding" not in embedding.strengths([TOPICS["writing"]])[0].tasks
    bare = EmbeddingAnnotator(write_space(tmp_path / "bare.txt", tasks=()))
    assert "writing, coding, math, translation" in bare.notes()[0]
    assert one(bare, TOPICS["writing"]) == Label(level="semantics")


def test_labels_do_not_depend_on_the_other_lists(embedding, space):
    lists = [TOPICS["writing"], ["zebra", "quark"], TOPICS["neither"]]
    together = EmbeddingAnnotator(space).annotate(lists, 0)
    assert together == [one(embedding, words) for words in lists]


def test_lists_that_say_nothing(embedding):
    unknown = ["zzyzx", "qwrtp", "vbnmk", "xkcdw", "plmok"]
    labels = embedding.annotate([[], ["cat"], unknown, ["cat", "hat"]], 0)
    assert labels == [None, Label(), Label(), Label()]


@pytest.mark.numerics
def test_scores_equal_the_naive_ones(embedding, space):
    rows = [line.split() for line in Path(space).read_text().splitlines()[1:]]
    unit = {r[0]: np.array(r[1:], float) / np.linalg.norm(np.array(r[1:], float)) for r in rows}
    centre = np.mean(list(unit.values()), axis=0)
    words = TOPICS["writing"][:6]
    centred = [unit[w] - centre for w in words]
    pairs = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in combinations(centred, 2)]
    vectors = embedding._known(words)
    assert annotators_embedding._mean_cosine(vectors) == pytest.approx(np.mean(pairs), abs=rounding(len(unit) + 32))

    words = ["light", "night", "fight", "table", "house"]
    share = sum("rhyme ite" in phonological(w) for w in unit)
    naive = -np.log10(binom.sf(2, 5, (share + 1) / (len(unit) + 2)))
    assert embedding._surprise("phonology", words) == pytest.approx(naive)


# embedding: spelling


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("phonology", "cat hat bat rat mat sat fat chat"),
        ("phonology", "light kite white fight quite night bite right"),
        ("morphology", "sadness darkness weakness kindness illness madness"),
        ("morphology", "act actor acting action active acted actors"),
        ("morphology", "jumped walked talked opened closed cooked"),
        ("syntax", "he she they we him them"),
        ("syntax", "can may must should would might"),
        ("syntax", "went took saw knew fell drank"),
    ],
)
def test_levels_that_spelling_shows_need_no_vectors(embedding, level, words):
    assert one(embedding, words.split()).level == level


def test_endings_that_only_look_like_affixes():
    assert "suffix ing" in morphological("running")
    assert "suffix ing" in morphological("making")
    assert "suffix ing" not in morphological("king") | morphological("thing")
    assert "prefix un" in morphological("unhappy")
    assert "prefix un" not in morphological("uncle")
    # a shared suffix is form, not sound
    assert not any(f.startswith("rhyme") for f in phonological("sadness"))
    assert "rhyme ing" in phonological("king") & phonological("thing")


def test_relatives_share_a_family_and_strangers_do_not():
    def family(word):
        return {f for f in morphological(word) if f.startswith("family")}

    for a, b in [("nation", "nationality"), ("write", "rewriting"), ("happy", "unhappiness"), ("run", "runner")]:
        assert family(a) & family(b), (a, b)
    assert not family("table") & family("market")


def test_sounds_are_heard_across_spellings():
    assert phonological("light") & phonological("kite") & {"rhyme ite"}
    assert phonological("know") & phonological("night") & {"onset n"}
    assert phonological("phone") & phonological("fish") & {"onset f"}


def test_closed_classes_rule_out_open_ones():
    assert "class modal" in syntactic("can")
    assert "class NOUN" not in syntactic("can")
    assert {"class ADJ", "only ADJ"} <= syntactic("famous")


# embedding: identity


def test_identity_is_content_and_not_place(space, tmp_path):
    copy = tmp_path / "elsewhere.txt"
    copy.write_bytes(Path(space).read_bytes())
    own = EmbeddingAnnotator(space).identity
    assert own == EmbeddingAnnotator(str(copy)).identity == json.loads(json.dumps(own))
    assert str(tmp_path) not in json.dumps(own)
    assert own != EmbeddingAnnotator(write_space(copy, seed=1)).identity


@pytest.mark.parametrize("name", ["TASK_THRESHOLD", "FEWEST_WORDS", "REFERENCE"])
def test_identity_changes_with_what_labels_depend_on(embedding, monkeypatch, name):
    before = embedding.identity
    monkeypatch.setattr(annotators_embedding, name, getattr(annotators_embedding, name) + 1)
    assert embedding.identity != before


def test_a_space_too_small_for_random_lists_is_refused(tmp_path):
    path = tmp_path / "small.txt"
    path.write_text("3 2\ncat 1 0\ndog 0 1\nsun 1 1\n")
    with pytest.raises(WordError, match=r"knows 3 of the 3 words .* needs 100"):
        one(EmbeddingAnnotator(str(path)), ["cat", "dog"])


# answers of language models


@pytest.mark.parametrize(
    "answer",
    [
        '{"tasks": ["writing", "math"], "level": "syntax"}',
        'Sure! Here it is:\n```json\n{"level": "Syntax", "tasks": ["Maths", "WRITING"]}\n```\nHope it helps.',
        '{"thought": 1} {"tasks": ["writing", "math", "none"], "level": " syntax "}',
    ],
)
def test_readable_answers(answer):
    assert parse_label(answer) == Label(tasks=frozenset({"writing", "math"}), level="syntax")


@pytest.mark.parametrize("answer", ['{"tasks": [], "level": "abstain"}', '{"tasks": "none", "level": null}'])
def test_nothing_is_a_label(answer):
    assert parse_label(answer) == Label()


@pytest.mark.parametrize(
    "answer",
    ["", "writing, semantics", "{", '{"tasks": ["writing"]}', '{"tasks": ["cooking"], "level": "syntax"}',
     '{"tasks": [1], "level": "syntax"}',
     '{"tasks": [], "level": ["syntax"]}', '{"tasks": [["math"]], "level": "syntax"}',
     '[]', '{"tasks": {}, "level": "grammar"}'],
)  # fmt: skip
def test_unreadable_answers(answer):
    assert parse_label(answer) is None


# endpoint


GOOD = '{"tasks": ["coding"], "level": "semantics"}'


@pytest.fixture
def asking(monkeypatch, tmp_path):
    """An annotator at a stub whose answer is ``reply(question)``, and the stub."""
    openai = pytest.importorskip("openai")
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    stubs = []

    def make(reply):
        def behave(body, number):
            found = reply(body["messages"][0]["content"])
            return completion(found) if isinstance(found, str) else found

        stubs.append(Stub(behave))
        endpoint = ChatEndpoint(model="m", url=stubs[-1].url, cache=tmp_path / "answers", retries=0)
        return EndpointAnnotator(endpoint=endpoint), stubs[-1]

    yield make
    for stub in stubs:
        stub.close()


def test_an_endpoint_labels_each_list_with_each_seed(asking):
    annotator, stub = asking(lambda question: GOOD if "loop" in question else '{"tasks": [], "level": "abstain"}')
    assert annotator.seeds == SEEDS
    assert len(set(SEEDS)) == 5
    for seed in annotator.seeds:
        labels = annotator.annotate([["loop", "array"], ["cat", "sky"]], seed)
        assert labels == [Label(tasks=frozenset({"coding"}), level="semantics"), Label()]
    assert sorted(b["seed"] for b in stub.bodies) == sorted([*SEEDS, *SEEDS])
    assert {b["messages"][0]["content"] for b in stub.bodies} == {INSTRUCTION + "loop, array", INSTRUCTION + "cat, sky"}


def test_an_unreadable_answer_is_asked_once_more_in_other_words(asking):
    annotator, stub = asking(lambda question: GOOD if question.startswith(AGAIN) else "Hello!")
    assert annotator.annotate([["loop"]], 0)[0].tasks == {"coding"}
    assert [b["messages"][0]["content"] for b in stub.bodies] == [INSTRUCTION + "loop", AGAIN + "loop"]


def test_rubbish_twice_is_a_failure_in_its_place(asking):
    annotator, stub = asking(lambda question: "rubbish" if "cat" in question else GOOD)
    labels = annotator.annotate([["loop"], ["cat"], [], ["array"]], 0)
    assert [label is None for label in labels] == [False, True, True, False]
    assert len(stub.bodies) == 4


def test_an_endpoint_that_is_down_is_an_error_and_answers_are_kept(asking):
    down = True
    annotator, stub = asking(lambda question: failure(503, "closed for lunch") if down and "z" in question else GOOD)
    with pytest.raises(EndpointError, match="closed for lunch"):
        annotator.annotate([["a"], ["b"], ["z"]], 0)
    down = False
    assert None not in annotator.annotate([["a"], ["b"], ["z"]], 0)
    # "a" and "b" were under way when "z" failed; nothing was asked twice but "z"
    asked = [b["messages"][0]["content"].removeprefix(INSTRUCTION) for b in stub.bodies]
    assert sorted(asked) == ["a", "b", "z", "z"]


def test_an_endpoints_identity_has_no_key_and_knows_the_prompts(asking, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    annotator, _ = asking(lambda question: GOOD)
    assert "sk-secret" not in json.dumps(annotator.identity)
    assert annotator.identity["prompts"] == annotators_prompted.PROMPTS
    named = make_annotator("openai:m@http://localhost:1/v1")
    assert named.identity["server"] == "localhost:1/v1"


# local checkpoint


def test_a_checkpoint_that_answers_rubbish_fails_on_every_list(tiny_base, tmp_path):
    annotator = make_annotator(f"hf:{tiny_base}", cache=tmp_path)
    assert annotator.annotate([["cat", "dog"], []], 0) == [None, None]


def test_a_checkpoints_readable_answers_are_labels_and_others_asked_again(tiny_base, monkeypatch, tmp_path):
    asked = []

    def answers(checkpoint, questions, *, max_new_tokens):
        asked.append(questions)
        return [GOOD if q.endswith("loop") or q.startswith(AGAIN) else "?" for q in questions]

    monkeypatch.setattr("tuneshift.chat.checkpoint.greedy_answers", answers)
    labels = make_annotator(f"hf:{tiny_base}", cache=tmp_path).annotate([["loop"], ["cat"]], 0)
    assert labels == [Label(tasks=frozenset({"coding"}), level="semantics")] * 2
    assert asked == [[INSTRUCTION + "loop", INSTRUCTION + "cat"], [AGAIN + "cat"]]


def test_a_checkpoint_annotators_identity_is_the_checkpoints_and_knows_the_prompts(tiny_base, tiny_tuned):
    identity = make_annotator(f"hf:{tiny_base}").identity
    assert {"annotator": "hf", "prompts": annotators_prompted.PROMPTS}.items() <= identity.items()
    assert identity["checkpoint"] != make_annotator(f"hf:{tiny_tuned}").identity["checkpoint"]


def test_what_is_no_checkpoint_is_named():
    with pytest.raises(PairError, match=r"annotator hf: './nowhere' is neither a folder"):
        make_annotator("hf:./nowhere").annotate([["a"]], 0)


def test_names_of_tasks_and_levels_are_those_of_the_evidence():
    # the store's arrays index into these: reordering them would relabel kept evidence
    assert TASKS == ("writing", "coding", "math", "translation")
    assert LEVELS == ("phonology", "morphology", "syntax", "semantics")
