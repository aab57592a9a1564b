"""Which prompts a claim shows, and their token strips."""

from __future__ import annotations

import numpy as np

from ..measures.attribution.density import Attribution
from ..pairs import ModelPair
from ..plain import Json
from ..statistics.bootstrap import ROUNDING
from ..statistics.statistic import Arm
from .view import Score

MAP_TOKENS = 160
"""Response tokens of an example whose levels are kept, about a hundred words."""


def chosen_prompts(base: Arm, tuned: Arm, seed: int) -> list[tuple[str, str]]:
    """Which prompts are shown, by a rule that no one can bend: the largest gain and the largest loss, of either where
    there is any, and others at random, four in all."""
    if len(base.ids) == 0:
        return []
    gain = tuned.values - base.values
    least = ROUNDING * float(np.max(np.abs([base.values, tuned.values])))  # what rounding alone moves
    largest, smallest = int(np.argmax(gain)), int(np.argmin(gain))
    picks = [(largest, "largest gain")] if gain[largest] > least else []
    picks += [(smallest, "largest loss")] if gain[smallest] < -least else []
    random = np.random.default_rng(seed).permutation(len(gain))
    picks += [(int(k), "drawn at random") for k in random]
    first = dict(reversed([(base.ids[k], why) for k, why in picks]))
    order = list(dict.fromkeys(base.ids[k] for k, _ in picks))
    return [(i, first[i]) for i in order[:4]]


def token_strip(role: str, pair: ModelPair, attribution: Attribution, score: Score) -> dict[str, Json]:
    ref = pair.checkpoint(role)
    return {
        "label": role,
        "name": ref.name if ref else role,
        "tokens": list(attribution.tokens),
        "density": [round(float(x), 4) for x in attribution.density],
        "instruction": attribution.instruction.tolist(),
        "template": (~attribution.user).tolist(),
        "response": attribution.response,
        "response_tokens": list(attribution.response_tokens[:MAP_TOKENS]),
        **({} if attribution.thinned_from is None else {"thinned_from": attribution.thinned_from}),
        # One character a response token, "a" for 10: a list of numbers would be three times as long.
        "levels": ["".join(f"{x:x}" for x in row) for row in attribution.levels[:, :MAP_TOKENS].tolist()],
        "score": score(attribution),
    }
