"""What a measure's evidence key holds: the one place to review for "does the key hold all that changes a number"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import TYPE_CHECKING

from ..checkpoints.refs import ModelRef
from ..errors import MeasureError, PairError
from ..pairs import ModelPair
from ..plain import NOTHING, Json, digest
from ..prompts.chat import chat_params
from ..prompts.prompt import PromptSet
from .catalogue import ANNOTATION, ATTRIBUTION, CONCEPTS, GENERATION, LIKELIHOOD, MEASURES, RELATIONS, TEXT, Measure

if TYPE_CHECKING:
    from ..engine.plan import Planner, Task
    from ..engine.settings import ResponseMode

CONTRAST = ".contrast"
"""A need named ``attribution.contrast`` is attribution to the other kind of response: shared where the run's own
decides, own where a shared one does. It feeds the sensitivity shown beside a verdict, never the verdict."""

THOUGHTS = ".thoughts"
"""A need named ``attribution.thoughts`` is attribution to the run's kind of response with the thoughts before it, which
are context otherwise. Where the pair's checkpoints are not known to think it is ``attribution``, under the same key."""

RULES = ".rules"
"""A need named ``generation.rules`` is the checkpoint's responses under the run's rule adapter, ``.rules-end`` the same
without the rule ``end``, and ``.rules+text`` with the user's text alone as present."""
TEXT_ALONE = "+text"

LOCAL = ".local"
"""A need named ``generation.local`` is the responses of our own passes whatever the run's backend: for findings that
set them beside evidence that no backend gives. Without a backend it is ``generation``, under the same key."""

FORMATS: Mapping[str, str] = {
    "plain": "base asked in a plain format",
    "paper": "base asked in the tags of arXiv:2409.14254",
}
"""A need that ends on ``.plain`` or ``.paper`` is the same with the checkpoint asked in that format in place of the
pair's (`Planner.chat`): in words, the reading that it feeds. It never decides. Where the pair's format writes alike it
is the same evidence under the same key."""

RANKED = {"k": 5, "seed": 0}
"""Other responses that each is ranked against, as in arXiv:2409.14254, and the seed of their draw."""

RELATED = {"top": 100, "z": 1.96, "frequent": 3000}
"""As in the paper's release (arXiv:2310.00492): words a neuron is known by, the threshold of similarity in standard
deviations, and the frequent words that it is measured against."""

NOISE = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Sizes of weight noise, against the weights', whose mixing of directions is taken off a rotation. The two largest keep
noise of a half from passing for one (docs/ffn-rotation.md)."""

CONCEPTS_KEPT = 300
"""Directions per layer, as in the paper's release."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A measure of one checkpoint of a pair that is asked for: what the functions below read.

    ``role``: the checkpoint's in the pair, ``ref`` the checkpoint itself. ``prompts``: None for a measure of layers.
    ``variant``: what stands behind the measure's name in the need, without a format, as ``.contrast``. ``planner``:
    what it knows of settings, templates, shapes and words, and the tasks that evidence depends on.
    """

    planner: Planner
    pair: ModelPair
    role: str
    ref: ModelRef
    prompts: PromptSet | None
    variant: str
    asked_in: str | None = None
    """A format of `FORMATS`; None for the pair's."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a measure's key holds beside weights, dtype and prompts.

    ``params``: part of the key, as they are. ``sources``: where the things lie that ``params`` identify by content; no
    part of it. ``depends_on``: the task whose evidence it is computed from, None for weights and prompts alone.
    ``served``: whether a backend may compute it in place of our own passes, and is then in the key. ``wider``: changes
    of ``params`` under which evidence holds all of this and more.
    """

    params: Mapping[str, Json]
    sources: Mapping[str, Json] = field(default_factory=lambda: NOTHING)
    depends_on: Task | None = None
    served: bool = False
    wider: tuple[Mapping[str, Json], ...] = ()


def split_format(need: str) -> tuple[str, str | None]:
    """A need without the format that it ends on, and that format; None where it ends on none."""
    rest, _, last = need.rpartition(".")
    return (rest, last) if last in FORMATS else (need, None)


def measure_of(need: str) -> Measure:
    """The measure that serves a need, as ``attribution.contrast``. Raises MeasureError, naming the known."""
    need, asked_in = split_format(need)
    name = need.partition(".")[0]
    if name not in MEASURES:
        raise MeasureError(f"no measure is called {name!r}; known are {', '.join(MEASURES)}")
    variant = need.removeprefix(name)
    attributed, generated = (CONTRAST, THOUGHTS), (LOCAL, RULES, RULES + TEXT_ALONE)
    variants = {ATTRIBUTION.name: attributed, GENERATION.name: generated}.get(name, ())
    if asked_in is not None and not variants:
        raise MeasureError(f"{name} is not taken in another format; {ATTRIBUTION.name} and {GENERATION.name} are")
    # Which rule is left out, the rules themselves check.
    ablation = name == GENERATION.name and variant.startswith(f"{RULES}-")
    if variant and variant not in variants and not ablation:
        known = ", ".join([name, *(name + v for v in variants)])
        raise MeasureError(f"{name} has no variant {variant!r}; known are {known}")
    return MEASURES[name]


def generation(asked: Asked) -> Held:
    """Greedy responses: the format, the longest response, where it ends, and the rule adapter where there is one."""
    tags = asked.planner.thinking(asked.pair)
    params: dict[str, Json] = {
        **_format(asked),
        "decoding": "greedy",
        "max_new_tokens": asked.planner.longest(asked.pair),
        "ends": list(asked.planner.ends(asked.pair, asked.ref, asked.asked_in)),
        "thinking": None if tags is None else list(tags),
    }
    if asked.variant.startswith(RULES):
        from .adapter_rules import load_rules

        of_rules = asked.variant.removeprefix(RULES)
        without = (of_rules.removeprefix("-"),) if of_rules.startswith("-") else ()
        params["rules"] = asdict(load_rules(asked.planner.settings.rules).without(*without))
        params["present"] = "text" if of_rules == TEXT_ALONE else "turn"
    # A backend gives no logits for the rules to act on.
    return Held(params=params, served=not asked.variant)


def likelihood(asked: Asked) -> Held:
    """Log-probabilities of each reference and of others: the format, how many others, and whose they are."""
    # Whose responses are drawn depends on the topics, which the prompt set's own hash leaves out.
    population: Json = [[p.id, p.prompt, p.reference, p.topic or p.cluster] for p in _prompts(asked).prompts]
    params: dict[str, Json] = {**RANKED, **_format(asked), "population": digest(population)}
    return Held(params=params, sources={"population": population}, served=True)


def text(asked: Asked) -> Held:
    """Log-probabilities of plain texts: no format and no variant, the texts and the weights say all."""
    return Held(params={}, served=True)


def attribution(asked: Asked) -> Held:
    """Importance of prompt tokens for a response: the format, the longest response, whose it is, what is derived.

    ``author``: the digest of the generation whose responses are explained, the checkpoint's own among them: another
    version of it, other ends or tags of thoughts are other evidence. ``attributed_rows``: the prompt tokens that
    importance is taken for, ``all`` or those of the user's ``text``; ``attributed_response_tokens``: ``all``, or how
    many evenly spaced ones. Evidence of all serves a request of fewer.

    Raises PairError for responses of recorded evidence, which cannot be reused.
    """
    mode, tuned = _response(asked), asked.pair.tuned
    if mode == "tuned" and tuned.evidence is not None:
        raise PairError(
            f"pair {asked.pair.name}: the tuned checkpoint is recorded evidence, its responses cannot be reused"
        )
    # A shared response of the model itself is its own: the same evidence under the same key.
    own = mode == "own" or (mode == "tuned" and tuned == asked.ref)
    # The response of another checkpoint is the one that it gives in the pair's format.
    response = GENERATION.name + LOCAL + (f".{asked.asked_in}" if asked.asked_in and own else "")
    depends_on = None if mode == "reference" else _task(asked, asked.role if own else "tuned", response)
    tokens = asked.planner.attributed_tokens(asked.pair)
    taken: dict[str, Json] = {
        "attributed_rows": "all" if asked.planner.settings.attribute_template == "yes" else "text",
        "attributed_response_tokens": "all" if tokens is None else tokens,
    }
    params: dict[str, Json] = {
        **_format(asked),
        "max_new_tokens": asked.planner.longest(asked.pair),
        "response": "own" if own else mode,
        "author": None if depends_on is None else depends_on.key.digest,
        "thoughts": _thoughts(asked) if depends_on is not None else None,
        **taken,
        "derivative_dtype": asked.ref.dtype or asked.planner.settings.dtype,
    }
    choices = product(*(dict.fromkeys((value, "all")) for value in taken.values()))
    wider = tuple(dict(zip(taken, chosen, strict=True)) for chosen in choices)[1:]
    return Held(params=params, depends_on=depends_on, wider=wider)


def relations(asked: Asked) -> Held:
    """Words that each head's neurons relate: the words and the word space, by content."""
    from ..words.spaces import space_identity
    from ..words.vocabulary import load_vocabulary

    words, space = asked.planner.words(asked.pair), asked.planner.word_space(asked.pair)
    params = {**RELATED, "vocabulary": load_vocabulary(words).sha256, "word_vectors": space_identity(space)}
    return Held(params=params, sources={"vocabulary": words, "word_vectors": space})


def concepts(asked: Asked) -> Held:
    """Directions that each feed-forward layer writes: how many, the words, and the noise that rotations are held to."""
    from ..words.vocabulary import load_vocabulary

    words, width = asked.planner.words(asked.pair), asked.planner.shape(asked.ref)[1]
    params: dict[str, Json] = {
        "concepts": CONCEPTS_KEPT,
        "top": 30,
        "vocabulary": load_vocabulary(words).sha256,
        # Well below the width, or any two subspaces overlap.
        "rotation_k": max(1, min(CONCEPTS_KEPT, width // 4)),
        "noise": list(NOISE),
    }
    return Held(params=params, sources={"vocabulary": words})


def annotation(asked: Asked) -> Held:
    """Labels of concepts: the annotator's identity and seeds, and the key of the concepts, so all that they hold."""
    from ..annotators.registry import make_annotator

    labelled, space = _task(asked, asked.role, CONCEPTS.name), asked.planner.word_space(asked.pair)
    annotator = make_annotator(asked.planner.settings.annotator, space)
    params: dict[str, Json] = {
        "annotator": annotator.identity,
        "seeds": list(annotator.seeds),
        "concepts": labelled.key.digest,
    }
    sources = {"annotator": asked.planner.settings.annotator, "word_vectors": space}
    return Held(params=params, sources=sources, depends_on=labelled)


HELD: Mapping[str, Callable[[Asked], Held]] = {
    GENERATION.name: generation,
    LIKELIHOOD.name: likelihood,
    TEXT.name: text,
    ATTRIBUTION.name: attribution,
    RELATIONS.name: relations,
    CONCEPTS.name: concepts,
    ANNOTATION.name: annotation,
}
"""The function of each measure."""


def _format(asked: Asked) -> dict[str, Json]:
    """How prompts are put: the chat format, and which variant of the prompt set is asked."""
    return {**chat_params(asked.planner.chat(asked.pair, asked.ref, asked.asked_in)), "prompt_variant": None}


def _thoughts(asked: Asked) -> str | None:
    """What the thoughts before a response are to its attribution; None where none are known of."""
    if asked.planner.thinking(asked.pair) is None:
        return None
    return "response" if asked.variant == THOUGHTS else "context"


def _response(asked: Asked) -> ResponseMode:
    """Whose response importance is attributed to."""
    chosen = asked.planner.settings.response
    if asked.variant != CONTRAST:
        return chosen
    if chosen != "own":
        return "own"
    # The references are the same for every tuned checkpoint, so a base's evidence serves them all.
    return "reference" if all(p.reference for p in _prompts(asked).prompts) else "tuned"


def _prompts(asked: Asked) -> PromptSet:
    assert asked.prompts is not None  # a measure of prompts is never asked for without
    return asked.prompts


def _task(asked: Asked, role: str, need: str) -> Task:
    task = asked.planner.task(asked.pair, role, need, asked.prompts)
    assert task is not None  # recorded evidence has been refused before
    return task
