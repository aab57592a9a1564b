"""How far an effect moves when the same checkpoints are measured again: other dtype, other batch size.

What a tuning did must show above what the arithmetic does. The floor of a claim is |second effect - first effect|.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import MeasureError
from ..plain import Json
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
