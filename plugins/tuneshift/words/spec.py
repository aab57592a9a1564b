"""Vocabularies and word spaces as options and pair files name them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..config import EMBEDDED, ConfigPlace
from ..resources import fixture

WORD_SPACES = ("minilm", "glove")
"""Word spaces that have names; others are files."""


def words_from_option(option: str, value: str | None) -> str | None:
    """``--shift-vocabulary`` or ``--shift-word-vectors`` with a file's path made absolute. Raises PairError.

    Without dashes, as ``vocabulary``, it is the setting of `tuneshift.run`.
    """
    place = ConfigPlace(label=option, folder=Path.cwd())
    return vocabulary_spec(value, place) if option.endswith("vocabulary") else word_file(value, place)


def vocabulary_spec(value: Any, place: ConfigPlace) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and value.lstrip("-").isdigit():
        if int(value) < 1:
            place.fail(f"a number of words of at least 1 is wanted, got {value}")
        return value
    return word_file(value, place)


def word_file(value: Any, place: ConfigPlace) -> str | None:
    """A named word space or an embedded file as it is; any other file's absolute path."""
    if value is None:
        return None
    if value in WORD_SPACES:
        return str(value)
    if place.typed(value, str).startswith(EMBEDDED):
        if not os.path.isfile(fixture(f"models/{value.removeprefix(EMBEDDED)}")):
            place.fail(f"no embedded file {value!r}")
        return str(value)
    return str(place.existing(value, "words file"))
