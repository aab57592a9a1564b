"""A run for its record: how it measures, its pairs with their checkpoints, formats and prompt sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..backends.spec import identity
from ..checkpoints.refs import ModelRef
from ..engine.settings import backend_of
from ..measures.catalogue import MEASURES
from ..pairs import ModelPair
from ..plain import Json
from ..prompts.chat import chat_params
from ..prompts.prompt import PromptSet
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
                "thinking": run.planner.thinking(pair),
                **pair_words(run.planner, pair),
            },
            "prompts": [
                _describe_prompts(t.prompts)
                for t in {t.prompts.name: t for t in run.targets if t.pair is pair and t.prompts}.values()
                if t.prompts
            ],
        }
        for pair in run.pairs
    ]


def _describe(run: RunSession, pair: ModelPair, ref: ModelRef) -> dict[str, Json]:
    common = {"name": ref.name, "fingerprint": run.planner.fingerprint(ref)}
    if ref.evidence is not None:
        said = {} if pair.recorded is None or ref.role is None else pair.recorded.checkpoints[ref.role]
        return {**said, **common, "evidence": str(ref.evidence)}
    backend = backend_of(ref, run.settings)
    return {
        **common,
        "model": ref.model,
        "revision": ref.revision,
        "adapter": ref.adapter,
        "dtype": ref.dtype or run.settings.dtype,
        "parameters": run.inspected(ref).parameters,
        **chat_params(run.planner.chat(pair, ref)),
        "ends": list(run.planner.ends(pair, ref)),
        **({} if backend is None else {"backend": identity(backend)}),
    }


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
