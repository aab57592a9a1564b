"""Example prompts laid out for the templates: token strips with importance, and the map of prompt by response."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..plain import Json
from . import values as display
from .figure_grid import heat_picture, row_ticks
from .values import finite

STRIP_LIMIT = 1_500
"""Tokens of one strip that are shown, so that one long context does not fill the file."""

EXAMPLES = 24
"""Prompts of a page, at least two for each pair: the first of a pair are its largest gain and its largest loss."""

MAPPED = 12
"""Examples up to which each has its maps, some 4 kB a model; more have their strips alone."""
MAP_ROWS = 400
"""Prompt tokens of the largest map: two pixels a row are the least that can be told apart."""

View = dict[str, Any]


def strip(model: Mapping[str, Json], mapped: bool = True) -> View:
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
    return {
        **model,
        "cells": cells,
        "more": max(0, len(tokens) - STRIP_LIMIT),
        "response": response,
        "map": levels_map(model) if mapped else None,
    }


def map_label(token: Json) -> str:
    """A token as the map names it."""
    return display.token_text(str(token).replace("▁", " ").replace("Ġ", " ")) or "(empty)"


def levels_map(model: Mapping[str, Json]) -> View | None:
    """The levels of prompt tokens (rows) by response tokens (columns) as one picture; None where none were recorded.

    What does not fit together, or is no level, leaves the map out: a run record may come from elsewhere.
    """
    texts, lines = [str(t) for t in model.get("response_tokens") or ()], model.get("levels") or ()
    tokens = [map_label(token) for token in model.get("tokens") or ()]
    fits = bool(texts) and len(lines) == len(tokens) <= MAP_ROWS and all(len(str(line)) == len(texts) for line in lines)
    if not fits or not all(re.fullmatch("[0-9a]*", str(line)) for line in lines):
        return None
    thinned = f", evenly spaced of {model['thinned_from']}" if isinstance(model.get("thinned_from"), int) else ""
    height = min(14 * len(tokens), 420)
    across = [map_label(token) for token in texts]
    strongest = max((int(level, 11), -r, -c) for r, line in enumerate(lines) for c, level in enumerate(str(line)))
    return {
        "height": height,
        "rows": len(tokens),
        "columns": len(texts),
        "row_ticks": row_ticks(tokens, height / len(tokens)),
        "picture": heat_picture([[int(level, 11) for level in str(line)] for line in lines]),
        "labels": json.dumps([tokens, across], ensure_ascii=False),
        "summary": f"{len(tokens)} prompt tokens by {len(texts)} response tokens{thinned}; the first of the highest "
        f"levels, {strongest[0]}, at “{tokens[-strongest[1]]}” for “{across[-strongest[2]]}”",
    }


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


def example_views(examples: Sequence[Mapping[str, Json]]) -> list[View]:
    """Examples with their strips; ``aligned`` where all models read the same tokens, so that one table holds them."""
    views = []
    for example in examples:
        models = [strip(m, len(examples) <= MAPPED) for m in example.get("models") or ()]
        texts = [[c["text"] for c in m["cells"]] for m in models]
        aligned = bool(texts) and all(t == texts[0] for t in texts)
        views.append({**example, "models": models, "aligned": aligned})
    return views
