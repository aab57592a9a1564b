"""Example prompts laid out for the templates: token strips with importance, and the map of prompt by response."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import display
from .display import finite
from .records import Json

STRIP_LIMIT = 1_500
"""Tokens of one strip that are shown, so that one long context does not fill the file."""

EXAMPLES = 24
"""Prompts of a page, at least two for each pair: the first of a pair are its largest gain and its largest loss."""

View = dict[str, Any]


def strip(model: Mapping[str, Json]) -> View:
    """One model's prompt tokens as display text with density in [0, 1], its step 0..10, and the masks."""
    tokens = [str(t) for t in model.get("tokens") or ()]
    density, instruction, template = (model.get(k) or () for k in ("density", "instruction", "template"))
    sentencepiece = any("▁" in t for t in tokens)
    marked = [k < len(instruction) and bool(instruction[k]) for k in range(len(tokens) + 1)]
    cells = []
    for k, token in enumerate(tokens[:STRIP_LIMIT]):
        text = token.replace("▁", " ") if sentencepiece else token.replace("Ġ", " ").replace("Ċ", "\n")
        text = re.sub(r"\r\n?|<0x0A>", "\n", text)
        value = finite(density[k]) if k < len(density) else None
        last = k == min(len(tokens), STRIP_LIMIT) - 1
        cells.append(
            {
                # A word's space stands before its colour, and a line breaks after it.
                "lead": " " if text[:1] == " " and text.strip() else "",
                "tail": "\n" * min(text.count("\n"), 3),
                "text": display.token_text(text),
                "more": max(0, len(text) - display.TOKEN_LIMIT),
                "value": value,
                "step": round(10 * min(max(value or 0.0, 0.0), 1.0)),
                "instruction": marked[k],
                "template": k < len(template) and bool(template[k]),
                "opens": marked[k] and (k == 0 or not marked[k - 1]),
                "closes": marked[k] and (last or not marked[k + 1]),
            }
        )
    response = display.cut(str(model.get("response") or ""))
    return {**model, "cells": cells, "more": max(0, len(tokens) - STRIP_LIMIT), "response": response}


def shared_out(examples: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
    """The first examples of every pair, so many that all pairs have the same share of the page."""
    counts: Counter[str] = Counter()
    share = max(2, EXAMPLES // max(1, len({str(example.get("pair")) for example in examples})))
    kept = []
    for example in examples:
        counts[str(example.get("pair"))] += 1
        if counts[str(example.get("pair"))] <= share:
            kept.append(example)
    return kept


def example_views(examples: Iterable[Mapping[str, Json]]) -> list[View]:
    """Examples with their strips; ``aligned`` where all models read the same tokens, so that one table holds them."""
    views = []
    for example in examples:
        models = [strip(m) for m in example.get("models") or ()]
        texts = [[c["text"] for c in m["cells"]] for m in models]
        aligned = bool(texts) and all(t == texts[0] for t in texts)
        views.append({**example, "models": models, "aligned": aligned})
    return views
