"""Checkpoints as a user names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class LMBackend:
    """One of lm-eval's models by its registry name, with its arguments as ``key=value,key=value``: what scores and
    generates for a checkpoint in place of our own passes. The name ``none`` means our own."""

    name: str
    args: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """One checkpoint as the user named it: weights by ``model``, or recorded evidence by ``evidence``, never both.

    ``role``: whose evidence of a pair's evidence file it is; None for weights and for a table of levels.

    ``chat_template``: None takes the pair's (the tuned tokenizer's own, if it has one); ``"none"`` means the plain
    prompt; else a path to a Jinja file or the template itself. ``backend``: None takes the run's.
    """

    name: str
    model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    dtype: str | None = None
    device_map: str | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    backend: LMBackend | None = None
    evidence: Path | None = None
    role: str | None = None


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a checkpoint: what a measure of weights is taken from, as a prompt is what others are taken from."""

    index: int

    @property
    def id(self) -> str:
        """``layer.`` and the index from 0: the item's id in the store."""
        return f"layer.{self.index}"
