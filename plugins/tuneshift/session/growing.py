"""A prompt set that grew since a run left a claim open on it: decided now, it would err more often than is stated.

Adding prompts until a set decides takes several looks at one sample. Nobody planned them, so no share of the error rate
was kept for them; a fresh set has no such history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..checkpoints.refs import ModelRef
from ..claims.claim import GROWN
from ..claims.finding import Finding
from ..errors import RecordError, counted
from ..plain import Json
from ..run_record import RunRecord, read_record
from .requests import Target


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """The run whose record lies where this one will write its own; ``path`` is that file, which need not be there."""

    path: Path

    @cached_property
    def _record(self) -> RunRecord | None:
        try:
            return read_record(self.path)
        except RecordError:
            return None  # none, or none of ours: it says nothing of this run

    def grown(self, finding: Finding, target: Target, fingerprint: Callable[[ModelRef], str]) -> tuple[int, str] | None:
        """How many prompts were asked when the claim was left open, and why it cannot be decided on these; None where
        nothing was left open, or not on a part of these prompts.

        ``fingerprint``: of a checkpoint, as records have it. Prompts are told apart by content.
        """
        if target.prompts is None or self._record is None:
            return None
        now = {prompt.sha256[:16] for prompt in target.prompts.prompts}
        asked = {prompt.sha256[:16] for prompt in target.members}
        checkpoints = tuple(map(fingerprint, (target.pair.base, target.pair.tuned)))
        for pair in self._record.pairs:
            if tuple((pair.get(role) or {}).get("fingerprint") for role in ("base", "tuned")) != checkpoints:
                continue
            for prompts in pair["prompts"]:
                before = set((prompts.get("items") or {}).get("sha256") or ())
                old = self._claim(finding, str(pair["name"]), str(prompts["name"]), target.group)
                if old is None or not before or not before <= now:
                    continue
                if kept := old["details"].get(GROWN):
                    return int(kept), self._reason(int(kept), len(now) - int(kept))
                if old["verdict"] == "inconclusive" and asked - before and asked & before:
                    return len(before), self._reason(len(before), len(now - before))
        return None

    def _claim(self, finding: Finding, pair: str, prompts: str, group: str) -> Mapping[str, Json] | None:
        assert self._record is not None
        place = (finding.id, pair, prompts, group)
        found = (c for c in self._record.claims if (c["finding"], c["pair"], c["prompts"], c["group"]) == place)
        return next(found, None)

    def _reason(self, before: int, more: int) -> str:
        return (
            f"The set has grown from the {counted(before, 'prompt')} on which {self.path} left this open: a set that "
            "grows until it decides errs more often than stated. Ask a fresh set: the "
            f"{counted(more, 'new prompt')} alone. Where the larger set was planned before the first result was seen, "
            "write to another --shift-out."
        )
