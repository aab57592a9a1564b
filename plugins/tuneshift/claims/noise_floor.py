"""How far an effect moves when the same checkpoints are measured again: other dtype, other batch size.

What a tuning did must show above what the arithmetic does. The floor of a claim is |second effect - first effect|.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import MeasureError
from ..plain import Json
from ..statistics.statistic import Statistic
from .finding import Finding, Outcome, Verdict
from .view import NotApplicable, Quantity, View


def noise_floor(effect: float, quantity: Quantity, view: View, settings: str) -> Mapping[str, Json]:
    """``floor`` |second - first| in the claim's unit, ``effect`` the second one, and ``settings`` in words.

    ``view`` reads the second evidence. Raises MeasureError where the quantity has no value there: without a second
    effect nothing is known of the noise, and a claim must not pass for want of it.
    """
    try:
        second = quantity(view).effect
    except NotApplicable as error:
        raise MeasureError(f"The noise floor cannot be taken: measured again ({settings}), {error}.") from error
    if not (math.isfinite(effect) and math.isfinite(second)):
        raise MeasureError(
            f"The noise floor cannot be taken: the effect is {effect:+.3g}, and measured again ({settings}) it is "
            f"{second:+.3g}. Leave --shift-noise-floor out, or give the claim more prompts."
        )
    return {"floor": abs(second - effect), "effect": second, "settings": settings}


def above_noise(finding: Finding, statistic: Statistic, verdict: Verdict, noise: Mapping[str, Json] | None) -> Verdict:
    """The verdict, or inconclusive where an effect is no larger than what measuring again moves it by."""
    claims_none = finding.direction == "equivalent" or finding.noninferior
    if noise is None or verdict.outcome is not Outcome.REPRODUCED or claims_none:
        return verdict
    if abs(statistic.effect) > noise["floor"]:
        return verdict
    return Verdict(
        outcome=Outcome.INCONCLUSIVE,
        reason=f"The effect {statistic.effect:+.3g} is no larger than the noise floor {noise['floor']:.3g}: measured "
        f"again ({noise['settings']}) it is {noise['effect']:+.3g}.",
    )
