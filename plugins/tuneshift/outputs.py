"""Stored responses in other tools' formats, so that a judge outside tuneshift can compare them."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import UsageError
from .plan import Planner
from .prompts import load_prompts
from .records import Json, ModelPair
from .store import Store


def alpaca_outputs(pair: ModelPair, role: str, *, rules: bool, planner: Planner, store: Store) -> list[dict[str, Json]]:
    """A checkpoint's responses on all the pair's prompts, as AlpacaEval reads model outputs.

    One object a prompt: ``instruction``, ``output``, ``generator`` (the checkpoint's name) and ``dataset`` (the prompt
    set's). ``rules``: those under the rule adapter. Prompts that were left out are not listed. Raises UsageError where
    the responses are not stored yet or the pair has no such checkpoint.
    """
    ref = pair.checkpoint(role)
    if ref is None or ref.evidence is not None:
        why = "is recorded evidence, without responses" if ref else f"is none; the pair names {_roles(pair)}"
        raise UsageError(f"pair {pair.name}: {role} {why}.")
    rows: list[dict[str, Json]] = []
    for source in pair.prompts:
        prompts = load_prompts(source, pair=pair.name)
        task = planner.task(pair, role, "generation.rules" if rules else "generation", prompts)
        assert task is not None
        progress = store.status(task.key, task.ids)
        if not progress.complete:
            raise UsageError(
                f"{progress.stored} of {progress.total} responses of {ref.name} to {prompts.name} are stored in "
                f"{store.root}. Run `pytest suites` on the pair first, with the same store, dtype and longest response."
            )
        texts = {p.id: p.prompt for p in prompts.prompts}
        rows += [
            {
                "instruction": texts[item.id],
                "output": item.values["response"],
                "generator": f"{ref.name} + rules" if rules else ref.name,
                "dataset": prompts.name,
            }
            for item in store.read(task.key).items
            if not item.left_out
        ]
    return rows


def _roles(pair: ModelPair) -> str:
    known: Sequence[str] = ("base", "tuned", *pair.siblings)
    return ", ".join(known)
