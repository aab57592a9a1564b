"""What a measure's evidence key holds: the one place to review for "does the key hold all that changes a number"."""

from __future__ import annotations

from ..errors import MeasureError
from .catalogue import ATTRIBUTION, GENERATION, MEASURES, Measure

CONTRAST = ".contrast"
"""A need named ``attribution.contrast`` is attribution to the other kind of response: shared where the run's own
decides, own where a shared one does. It feeds the sensitivity shown beside a verdict, never the verdict."""

RULES = ".rules"
"""A need named ``generation.rules`` is the checkpoint's responses under the run's rule adapter, ``.rules-end`` the same
without the rule ``end``, and ``.rules+text`` with the user's text alone as present."""
TEXT_ALONE = "+text"

LOCAL = ".local"
"""A need named ``generation.local`` is the responses of our own passes whatever the run's backend: for findings that
set them beside evidence that no backend gives. Without a backend it is ``generation``, under the same key."""

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


def measure_of(need: str) -> Measure:
    name = need.partition(".")[0]
    if name not in MEASURES:
        raise MeasureError(f"no measure is called {name!r}; known are {', '.join(MEASURES)}")
    variant = need.removeprefix(name)
    variants = {ATTRIBUTION.name: (CONTRAST,), GENERATION.name: (LOCAL, RULES, RULES + TEXT_ALONE)}.get(name, ())
    # Which rule is left out, the rules themselves check.
    ablation = name == GENERATION.name and variant.startswith(f"{RULES}-")
    if variant and variant not in variants and not ablation:
        known = ", ".join([name, *(name + v for v in variants)])
        raise MeasureError(f"{name} has no variant {variant!r}; known are {known}")
    return MEASURES[name]
