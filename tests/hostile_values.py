"""What the tests of hostile input share: how long they look, values that nothing expects, and mutants of files."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

CAMPAIGN = "TUNESHIFT_CAMPAIGN"
"""Environment variable: examples and mutants per test of a long campaign; `.ci/nightly` sets 1000."""


def effort(usual: int) -> int:
    """How many examples or mutants a test tries."""
    return int(os.environ.get(CAMPAIGN, usual))


quick = settings(max_examples=effort(40), deadline=None, derandomize=True, database=None)

HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 1e308, 10**299, "", "x", "\n::error::x", "\x1b]0;x\x07", "\ud800", "\u202e", "a" * 300, [],
    {}, [[]], {"": None}, [None], ["\n"], {"kind": "regex"}, {"x": {"y": [1, "2", None]}},
)  # fmt: skip

texts = st.text(alphabet="abcSayit .,=[]{}:\"'\\#\n\t\r0129-é▁\x00\x1b\u2028\u202e🙂", max_size=30)
"""Texts of few letters: those that the formats here give a meaning to."""

json_values = st.recursive(
    st.sampled_from([v for v in HOSTILE if not isinstance(v, list | dict)]) | texts | st.integers(-3, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def json_mutant(value: Any, rng: random.Random) -> Any:
    """The JSON value with one place changed: replaced, taken out, or put in twice."""
    value = json.loads(json.dumps(value))
    nodes = [value]
    for node in nodes:
        inner = node.values() if isinstance(node, dict) else node
        nodes += [child for child in inner if isinstance(child, dict | list) and child]
    node = rng.choice(nodes)
    place = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
    how = rng.randrange(6)
    if how == 0:
        del node[place]
    elif how == 1 and isinstance(node, list):
        node.append(node[place])
    elif how == 2 and isinstance(node, dict):
        node[rng.choice(HOSTILE[8:14])] = node.pop(place)
    else:
        node[place] = rng.choice(HOSTILE)
    return value


INSERTED = (b"9" * 5000, b"[" * 100_000, b"NaN", b"1e999", b"\xff", b"\n::error::")


def byte_mutant(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one damage as disks, copies and editors do it; never the same bytes."""
    if not data:
        return b"\x00"
    at, length = rng.randrange(len(data)), rng.randint(1, 64)
    mutants: list[Callable[[], bytes]] = [
        lambda: data[:at],
        lambda: data[:at] + data[at + length :],
        lambda: data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
        lambda: data[:at] + b"\x00" * length + data[at + length :],
        lambda: data[:at] + data[at : at + length] * 2 + data[at + length :],
        lambda: data[:at] + rng.choice(INSERTED) + data[at:],
        lambda: data + data,
        lambda: b"",
    ]
    found = rng.choice(mutants)()
    return found if found != data else data[:-1]
