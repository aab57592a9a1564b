"""A run for its record: how it measures, its pairs with their checkpoints, formats and prompt sets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..backends.spec import identity
from ..checkpoints.refs import ModelRef
from ..engine.settings import backend_of
from ..measures.catalogue import MEASURES
from ..pairs import ModelPair
from ..plain import Json
from ..prompts.chat import chat_params
from ..prompts.prompt import PromptSet
from ..prompts.sets import load_prompts
from .replay import pair_words

if TYPE_CHECKING:
    from .run import RunSession


def describe_settings(run: RunSession) -> dict[str, Json]:
    """How this run measures, for the record: the versions of the measures, and the options behind them."""
    settings = run.settings
    return {
        "measures": {name: measure.version for name, measure in MEASURES.items()},
        "settings": {
            "response": settings.response,
            "attribute_tokens": settings.attribute_tokens,
            "attribute_template": settings.attribute_template,
            "max_new_tokens": settings.max_new_tokens,
            "dtype": settings.dtype,
            "judges": list(settings.judges),
            "rules": settings.rules,
            "base_format": settings.base_format,
            "annotator": settings.annotator,
            "vocabulary": settings.vocabulary,
            "word_vectors": settings.word_vectors,
        },
    }


def attribution_lines(run: RunSession) -> list[str]:
    """For the header, what part of each response importance is taken for, of pairs where it is not all."""
    thinned = {pair.name: tokens for pair in run.pairs if (tokens := run.planner.attributed_tokens(pair))}
    return [
        f"tuneshift: pair {name}: importance for {tokens} evenly spaced tokens of each response (attribute-tokens)"
        for name, tokens in thinned.items()
    ]


def describe_pairs(run: RunSession) -> list[dict[str, Json]]:
    """The run's pairs for the record: checkpoints with fingerprints, formats, prompt sets with counts."""
    return [
        {
            "name": pair.name,
            **{role: _describe(run, pair, ref) for role, ref in pair.roles.items()},
            "notes": run.notes(pair),
            "plain_format": run.planner.plain_format(pair),
            "settings": {
                "max_new_tokens": run.planner.longest(pair),
                "attribute_tokens": run.planner.attributed_tokens(pair),
                "thinking": run.planner.thinking(pair),
                **pair_words(run.planner, pair),
            },
            "prompts": list(_sets(run, pair)),
        }
        for pair in run.pairs
    ]


def _describe(run: RunSession, pair: ModelPair, ref: ModelRef) -> dict[str, Json]:
    common = {"name": ref.name, "fingerprint": run.planner.fingerprint(ref)}
    if ref.evidence is not None:
        said = {} if pair.recorded is None or ref.role is None else pair.recorded.checkpoints[ref.role]
        return {**said, **common, "evidence": str(ref.evidence)}
    backend, info = backend_of(ref, run.settings), run.inspected(ref)
    return {
        **common,
        "model": ref.model,
        "revision": ref.revision,
        "adapter": ref.adapter,
        "dtype": ref.dtype or run.settings.dtype,
        "parameters": info.parameters,
        "quantization": None if info.quantization is None else info.quantization.described(),
        **chat_params(run.planner.chat(pair, ref)),
        "ends": list(run.planner.ends(pair, ref)),
        **({} if backend is None else {"backend": identity(backend)}),
    }


def _sets(run: RunSession, pair: ModelPair) -> Iterable[dict[str, Json]]:
    """The prompt sets that a pair is asked: its own, and those that findings bring."""
    own = {t.prompts.name: t.prompts for t in run.targets if t.pair is pair and t.prompts}
    brings = (finding.prompt_set for finding in run.known_findings() if finding.prompt_set)
    brought = {name: load_prompts(name) for name in brings if name not in own}
    yield from (_describe_prompts(prompts) for prompts in own.values())
    yield from ({**_describe_prompts(prompts), "brought": True} for prompts in brought.values())


def _describe_prompts(prompts: PromptSet) -> dict[str, Json]:
    """A prompt set with what tells its items apart, so that another run's can be matched with them."""
    members = prompts.prompts
    return {
        "name": prompts.name,
        "n": len(members),
        "sha256": prompts.sha256,
        "items": {
            "ids": [p.id for p in members],
            "sha256": [p.sha256[:16] for p in members],
            "clusters": [p.unit for p in members],
            "topics": [p.subject for p in members],
        },
    }
