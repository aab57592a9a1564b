"""Values as plain JSON, and the digest of one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

Json = Any
"""A value that json.dumps accepts without a default."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


def digest(value: Json) -> str:
    """SHA-256 of a JSON value's canonical form (sorted keys, no white space), as 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def seal(value: Json) -> str:
    """SHA-256 by which a file that is kept on disk is told from a damaged one, as 64 hexadecimal digits.

    Of anything that ``json.loads`` gives, NaN and lone surrogates included, which `digest` refuses.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def plain(value: Any) -> Json:
    """The value in JSON types only: numpy scalars and arrays unwrapped, NaN and infinities as None, keys as strings.

    xdist sends nothing else between processes: a numpy float would be an internal error there.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")
