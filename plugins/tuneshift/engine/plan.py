"""What is to be measured: from the evidence that tests name to tasks per checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..backends.spec import has_our_batches, identity, is_loaded
from ..checkpoints.refs import Layer, LMBackend, ModelRef
from ..claims.finding import Finding
from ..errors import PairError
from ..measures.catalogue import Measure
from ..measures.params import HELD, Asked, measure_of, split_format
from ..pairs import ModelPair
from ..plain import NOTHING, Json, digest
from ..prompts.chat import (
    CHAT_DATE,
    PAPER_FORMAT,
    PLAIN_FORMAT,
    ChatFormat,
    chat_params,
    given_template,
    read_chat_template,
    same_format,
)
from ..prompts.ends import response_ends
from ..prompts.prompt import Prompt, PromptSet
from ..prompts.thinking import Tags, thinking_tags
from ..readings import Readings
from ..store.evidence import EvidenceKey
from .settings import LONGEST_RESPONSE, VOCABULARY, WORD_VECTORS, backend_of

if TYPE_CHECKING:
    from .settings import Settings


@dataclass(frozen=True, kw_only=True)
class Task:
    """One measure of one checkpoint, on one prompt set or on its layers: a key of the store and how to fill it.

    ``units``: what there is an item for. ``on``: their name, the prompt set's or ``weights``. ``sources``: where the
    things lie that ``params`` identify by content. ``backend``: what computes it in place of our own passes.
    ``asked_in``: the format in place of the pair's, where it writes otherwise. ``wider``: keys of evidence that holds
    all of it and more, from which it can be taken without measuring.
    """

    ref: ModelRef
    measure: Measure
    params: Mapping[str, Json]
    units: tuple[Prompt | Layer, ...]
    on: str
    key: EvidenceKey
    depends_on: Task | None = None
    sources: Mapping[str, Json] = field(default_factory=lambda: NOTHING)
    backend: LMBackend | None = None
    asked_in: str | None = None
    wider: tuple[EvidenceKey, ...] = ()

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
    return all(measure_of(need).axis == "layers" for _, need in finding.needs)


@dataclass(kw_only=True)
class Planner:
    """Resolves needs to tasks. Fingerprints and templates are worked out once per checkpoint and kept.

    ``batch_share``: batch sizes against the usual ones, for a second measurement under keys of its own; None, and no
    part of any key, for the first, and for a backend whose batches are not ours.
    """

    settings: Settings
    batch_share: float | None = None
    _fingerprints: dict[ModelRef, str] = field(default_factory=dict)
    _templates: dict[ModelRef, str | None] = field(default_factory=dict)
    _shapes: dict[ModelRef, tuple[int, int]] = field(default_factory=dict)
    _ends: dict[tuple[str, ModelRef, tuple[ModelRef, ...]], tuple[int, ...]] = field(default_factory=dict)
    _thinking: dict[ModelRef, Tags | None] = field(default_factory=dict)

    @property
    def readings(self) -> Readings:
        """What earlier runs read of configurations and tokenizers."""
        memo = self.settings.memo
        return Readings(None if memo is None else memo.with_name("readings.json"))

    def fingerprint(self, ref: ModelRef) -> str:
        """Fingerprint of weights and tokenizer, or of the recorded evidence; 64 hexadecimal digits."""
        if ref not in self._fingerprints:
            if ref.evidence is not None:
                from ..store.recorded import recorded

                self._fingerprints[ref] = recorded(ref).fingerprint
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
            self._templates[chosen] = read_chat_template(chosen, self.readings)
        return self._templates[chosen]

    def chat(self, pair: ModelPair, ref: ModelRef, asked_in: str | None = None) -> ChatFormat | None:
        """How a checkpoint of the pair is asked: its template, the day that it sees and its variables; None for the
        prompt alone. ``asked_in``: one of `FORMATS` in its place, unless that writes alike."""
        template = self.template(pair, ref)
        usual = None if template is None else ChatFormat(
            template=template, day=pair.chat_date or CHAT_DATE, variables=pair.chat_template_kwargs
        )  # fmt: skip
        if asked_in is None:
            return usual
        given = PAPER_FORMAT if asked_in == "paper" else self.plain_format(pair)
        other = None if given is None else ChatFormat(template=given)
        return usual if same_format(ref, usual, other, self.readings) else other

    def plain_format(self, pair: ModelPair) -> str | None:
        """The plain format that the base is asked in for a reading, as Jinja text; None for the prompt alone."""
        given = self.settings.plain_format or pair.plain_format
        return PLAIN_FORMAT if given is None else given_template(given, f"pair {pair.name}: plain_format")

    def ends(self, pair: ModelPair, ref: ModelRef, asked_in: str | None = None) -> tuple[int, ...]:
        """Ids that end a response of a checkpoint of the pair: the same tokens for all that are asked in one format."""
        chat = self.chat(pair, ref, asked_in)
        asked = digest(chat_params(chat)), ref, pair.checkpoints
        if asked not in self._ends:
            self._ends[asked] = response_ends(ref, pair.checkpoints, chat, self.readings)
        return self._ends[asked]

    def thinking(self, pair: ModelPair) -> Tags | None:
        """Texts that begin and end thoughts of the pair's checkpoints; None where they are not known to think."""
        if pair.thinking is not None:
            return (pair.thinking[0], pair.thinking[1]) if pair.thinking else None
        if pair.tuned.evidence is not None:
            return None
        if pair.tuned not in self._thinking:
            self._thinking[pair.tuned] = thinking_tags(pair.tuned, self.readings)
        return self._thinking[pair.tuned]

    def shape(self, ref: ModelRef) -> tuple[int, int]:
        """Number of layers and width (d_model) of a checkpoint, from its configuration."""
        if ref not in self._shapes:
            from ..checkpoints.inspection import inspect

            info = inspect(ref, self.readings)
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
        need, asked_in = split_format(need)
        layers = measure.axis == "layers"
        held = HELD[measure.name](
            Asked(
                planner=self,
                pair=pair,
                role=role,
                ref=ref,
                prompts=None if layers else prompts,
                variant=need.removeprefix(measure.name),
                asked_in=asked_in,
            )
        )
        backend = backend_of(ref, self.settings) if held.served else None
        params = held.params if backend is None else {**held.params, "backend": identity(backend)}
        if self.batch_share is not None and not layers and (backend is None or has_our_batches(backend)):
            params = {**params, "batch": self.batch_share}
        units: tuple[Prompt | Layer, ...]
        if layers or prompts is None:
            units, on, hashed = tuple(Layer(index=i) for i in range(self.shape(ref)[0])), "weights", ""
        else:
            units, on, hashed = prompts.prompts, prompts.name, prompts.sha256
        key = EvidenceKey(
            measure=measure.name,
            version=measure.version,
            params=params,
            checkpoint=self.fingerprint(ref),
            dtype=ref.dtype or self.settings.dtype,
            prompts=hashed,
        )
        return Task(
            ref=ref,
            measure=measure,
            params=params,
            units=units,
            on=on,
            key=key,
            depends_on=held.depends_on,
            sources=held.sources,
            backend=backend,
            wider=tuple(replace(key, params={**params, **more}) for more in held.wider),
            asked_in=asked_in if asked_in and self.chat(pair, ref, asked_in) != self.chat(pair, ref) else None,
        )

    def words(self, pair: ModelPair) -> str:
        """The vocabulary of a pair's measures of weights, as `load_vocabulary` takes it."""
        return self.settings.vocabulary or pair.vocabulary or VOCABULARY

    def word_space(self, pair: ModelPair) -> str:
        """The word space of a pair's measures of weights, as `load_word_space` takes it."""
        return self.settings.word_vectors or pair.word_vectors or WORD_VECTORS

    def attributed_tokens(self, pair: ModelPair) -> int | None:
        """Response tokens of a pair's checkpoints that importance is taken for, evenly spaced; None for all of them.

        As many as the longest response may have are all of them; that of recorded evidence is not known.
        """
        asked = self.settings.attribute_tokens or pair.attribute_tokens
        measured = all(ref.evidence is None for ref in pair.checkpoints)
        return None if asked is None or (measured and asked >= self.longest(pair)) else asked

    def longest(self, pair: ModelPair) -> int:
        """Longest response that a pair's checkpoints give, in tokens."""
        return self.settings.max_new_tokens or pair.max_new_tokens or LONGEST_RESPONSE
