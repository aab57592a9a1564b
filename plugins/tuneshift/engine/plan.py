"""What is to be measured: from the evidence that tests name to tasks per checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from ..backends.spec import identity, is_loaded
from ..checkpoints.refs import Layer, LMBackend, ModelRef
from ..claims.finding import Finding
from ..errors import PairError
from ..measures.catalogue import ANNOTATION, ATTRIBUTION, CONCEPTS, GENERATION, LIKELIHOOD, RELATIONS, Measure
from ..measures.params import CONCEPTS_KEPT, CONTRAST, LOCAL, NOISE, RANKED, RELATED, RULES, TEXT_ALONE, measure_of
from ..pairs import ModelPair
from ..plain import NOTHING, Json, digest
from ..prompts.prompt import Prompt, PromptSet
from ..store.evidence import EvidenceKey
from .settings import LONGEST_RESPONSE, VOCABULARY, WORD_VECTORS, backend_of

if TYPE_CHECKING:
    from .settings import ResponseMode, Settings


@dataclass(frozen=True, kw_only=True)
class Task:
    """One measure of one checkpoint, on one prompt set or on its layers: a key of the store and how to fill it.

    ``units``: what there is an item for. ``on``: their name, the prompt set's or ``weights``. ``sources``: where the
    things lie that ``params`` identify by content. ``backend``: what computes it in place of our own passes.
    """

    ref: ModelRef
    measure: Measure
    params: Mapping[str, Json]
    units: tuple[Prompt | Layer, ...]
    on: str
    key: EvidenceKey
    rests_on: Task | None = None
    sources: Mapping[str, Json] = field(default_factory=lambda: NOTHING)
    backend: LMBackend | None = None

    @property
    def loads(self) -> bool:
        """Whether this process loads the checkpoint's weights for it."""
        return self.measure.loads and (self.backend is None or is_loaded(self.backend))

    @property
    def ids(self) -> tuple[str, ...]:
        """The units' ids, in order."""
        return tuple(unit.id for unit in self.units)


def reads_weights(finding: Finding) -> bool:
    """Whether all that a finding needs is taken from weights, so that it is tested once per pair and asks no prompts.

    Raises MeasureError for a need that no measure serves.
    """
    return all(measure_of(need).of == "layers" for _, need in finding.needs)


@dataclass(kw_only=True)
class Planner:
    """Resolves needs to tasks. Fingerprints and templates are worked out once per checkpoint and kept.

    ``batch_share``: batch sizes against the usual ones, for a second measurement under keys of its own; None, and no
    part of any key, for the first.
    """

    settings: Settings
    batch_share: float | None = None
    _fingerprints: dict[ModelRef, str] = field(default_factory=dict)
    _templates: dict[ModelRef, str | None] = field(default_factory=dict)
    _shapes: dict[ModelRef, tuple[int, int]] = field(default_factory=dict)

    def fingerprint(self, ref: ModelRef) -> str:
        """Fingerprint of weights and tokenizer, or of the recorded evidence; 64 hexadecimal digits."""
        if ref not in self._fingerprints:
            if ref.evidence is not None:
                from ..store.recorded import recorded_fingerprint

                self._fingerprints[ref] = recorded_fingerprint(ref.evidence)
            else:
                from ..checkpoints.fingerprint import fingerprint

                self._fingerprints[ref] = fingerprint(ref, memo=self.settings.memo)
        return self._fingerprints[ref]

    def template(self, pair: ModelPair, ref: ModelRef) -> str | None:
        """Chat template that a checkpoint of the pair is asked with, as Jinja text; None for the plain prompt.

        Both checkpoints are asked in one format, the tuned one's, unless the pair file sets ``chat_template`` on them:
        a paired difference needs the same prompt on both sides.
        """
        chosen = ref if ref.chat_template is not None else pair.tuned
        if chosen.evidence is not None:
            return None
        if chosen not in self._templates:
            from ..checkpoints.tokenizers import load_tokenizer
            from ..prompts.chat import resolve_chat_template

            self._templates[chosen] = resolve_chat_template(chosen, load_tokenizer(chosen))
        return self._templates[chosen]

    def shape(self, ref: ModelRef) -> tuple[int, int]:
        """Number of layers and width (d_model) of a checkpoint, from its configuration."""
        if ref not in self._shapes:
            from ..checkpoints.inspection import inspect

            info = inspect(ref)
            self._shapes[ref] = info.layers, info.width
        return self._shapes[ref]

    def task(self, pair: ModelPair, role: str, need: str, prompts: PromptSet | None) -> Task | None:
        """The task behind a need, or None for recorded evidence, which is read and never measured.

        ``prompts`` may be None for a need of weights. Raises PairError, MeasureError; WordError for words that cannot
        be read.
        """
        ref = pair.checkpoint(role)
        if ref is None:
            raise PairError(f"pair {pair.name} names no {role} checkpoint")
        if ref.evidence is not None:
            return None
        measure = measure_of(need)
        if measure.of == "layers":
            return {RELATIONS: self._relations, CONCEPTS: self._concepts, ANNOTATION: self._annotation}[measure](
                pair, ref
            )
        assert prompts is not None
        if measure is GENERATION:
            # A backend gives no logits for the rules to act on.
            backend = None if RULES in need or need.endswith(LOCAL) else backend_of(ref, self.settings)
            rules = need.partition(RULES)[2] if RULES in need else None
            return self._generation(pair, ref, prompts, rules=rules, backend=backend)
        if measure is LIKELIHOOD:
            return self._likelihood(pair, ref, prompts)
        mode = self._response_mode(prompts, contrast=need.endswith(CONTRAST))
        return self._attribution(pair, ref, prompts, mode)

    def _response_mode(self, prompts: PromptSet, *, contrast: bool) -> ResponseMode:
        if not contrast:
            return self.settings.response
        if self.settings.response != "own":
            return "own"
        # The references are the same for every tuned checkpoint, so a base's evidence serves them all.
        return "reference" if all(p.reference for p in prompts.prompts) else "tuned"

    def _generation(
        self,
        pair: ModelPair,
        ref: ModelRef,
        prompts: PromptSet,
        *,
        rules: str | None = None,
        backend: LMBackend | None = None,
    ) -> Task:
        params: dict[str, Json] = {
            "chat_template": self.template(pair, ref),
            "decoding": "greedy",
            "max_new_tokens": self.longest(pair),
        }
        if rules is not None:
            from ..measures.adapter_rules import load_rules

            left_out = rules.removeprefix("-") if rules.startswith("-") else ""
            params["rules"] = asdict(load_rules(self.settings.rules).without(*([left_out] if left_out else [])))
            params["present"] = "text" if rules == TEXT_ALONE else "turn"
        return self._make(ref, GENERATION, params, prompts, None, backend=backend)

    def _likelihood(self, pair: ModelPair, ref: ModelRef, prompts: PromptSet) -> Task:
        # Whose responses are drawn depends on the clusters, which the prompt set's own hash leaves out.
        population = [[p.id, p.prompt, p.reference, p.cluster] for p in prompts.prompts]
        params = {**RANKED, "chat_template": self.template(pair, ref), "population": digest(population)}
        return self._make(
            ref, LIKELIHOOD, params, prompts, None, {"population": population}, backend=backend_of(ref, self.settings)
        )

    def _attribution(self, pair: ModelPair, ref: ModelRef, prompts: PromptSet, mode: ResponseMode) -> Task:
        author = pair.tuned if mode == "tuned" else ref
        if mode == "tuned" and author.evidence is not None:
            raise PairError(
                f"pair {pair.name}: the tuned checkpoint is recorded evidence, its responses cannot be reused"
            )
        rests_on = None if mode == "reference" else self._generation(pair, author, prompts)
        params: dict[str, Json] = {
            "chat_template": self.template(pair, ref),
            "max_new_tokens": self.longest(pair),
            # A shared response of the model itself is its own: the same evidence under the same key.
            "response": "own" if rests_on is not None and author == ref else mode,
        }
        if rests_on is not None and author != ref:
            params["author"] = rests_on.key.digest
        return self._make(ref, ATTRIBUTION, params, prompts, rests_on)

    def _relations(self, pair: ModelPair, ref: ModelRef) -> Task:
        from ..words.spaces import space_identity
        from ..words.vocabulary import load_vocabulary

        words, space = self.words(pair), self.word_space(pair)
        params = {**RELATED, "vocabulary": load_vocabulary(words).sha256, "word_vectors": space_identity(space)}
        return self._make_layers(ref, RELATIONS, params, {"vocabulary": words, "word_vectors": space})

    def _concepts(self, pair: ModelPair, ref: ModelRef) -> Task:
        from ..words.vocabulary import load_vocabulary

        words, width = self.words(pair), self.shape(ref)[1]
        params = {
            "concepts": CONCEPTS_KEPT,
            "top": 30,
            "vocabulary": load_vocabulary(words).sha256,
            # Well below the width, or any two subspaces overlap.
            "rotation_k": max(1, min(CONCEPTS_KEPT, width // 4)),
            "noise": list(NOISE),
        }
        return self._make_layers(ref, CONCEPTS, params, {"vocabulary": words})

    def _annotation(self, pair: ModelPair, ref: ModelRef) -> Task:
        from ..annotators.registry import make_annotator

        concepts, space = self._concepts(pair, ref), self.word_space(pair)
        annotator = make_annotator(self.settings.annotator, space)
        params = {
            "annotator": annotator.identity,
            "seeds": list(annotator.seeds),
            "concepts": concepts.key.digest,
        }
        sources = {"annotator": self.settings.annotator, "word_vectors": space}
        return self._make_layers(ref, ANNOTATION, params, sources, rests_on=concepts)

    def words(self, pair: ModelPair) -> str:
        """The vocabulary of a pair's measures of weights, as `load_vocabulary` takes it."""
        return self.settings.vocabulary or pair.vocabulary or VOCABULARY

    def word_space(self, pair: ModelPair) -> str:
        """The word space of a pair's measures of weights, as `load_word_space` takes it."""
        return self.settings.word_vectors or pair.word_vectors or WORD_VECTORS

    def longest(self, pair: ModelPair) -> int:
        """Longest response that a pair's checkpoints give, in tokens."""
        return self.settings.max_new_tokens or pair.max_new_tokens or LONGEST_RESPONSE

    def _make(
        self,
        ref: ModelRef,
        measure: Measure,
        params: Mapping[str, Json],
        prompts: PromptSet,
        rests_on: Task | None,
        sources: Mapping[str, Json] = NOTHING,
        backend: LMBackend | None = None,
    ) -> Task:
        if backend is not None:
            params = {**params, "backend": identity(backend)}
        if self.batch_share is not None:
            params = {**params, "batch": self.batch_share}
        key = self._key(ref, measure, params, prompts.sha256)
        return Task(
            ref=ref,
            measure=measure,
            params=params,
            units=prompts.prompts,
            on=prompts.name,
            key=key,
            rests_on=rests_on,
            sources=sources,
            backend=backend,
        )

    def _make_layers(
        self,
        ref: ModelRef,
        measure: Measure,
        params: Mapping[str, Json],
        sources: Mapping[str, Json],
        rests_on: Task | None = None,
    ) -> Task:
        return Task(
            ref=ref,
            measure=measure,
            params=params,
            units=tuple(Layer(index=i) for i in range(self.shape(ref)[0])),
            on="weights",
            key=self._key(ref, measure, params, ""),
            rests_on=rests_on,
            sources=sources,
        )

    def _key(self, ref: ModelRef, measure: Measure, params: Mapping[str, Json], prompts: str) -> EvidenceKey:
        return EvidenceKey(
            measure=measure.name,
            version=measure.version,
            params=params,
            checkpoint=self.fingerprint(ref),
            dtype=ref.dtype or self.settings.dtype,
            prompts=prompts,
        )
