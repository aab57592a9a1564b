"""What a test of a finding works with: the claim that it decides, and quantities of a pair's evidence."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..annotators.agreement import agreement_figure
from ..errors import NotInstalledError
from ..judges.agreement import agreement_figure as judges_figure
from ..judges.agreement import in_short
from ..judges.base import Judge
from ..measures.params import split_format
from ..pairs import ModelPair
from ..plain import NOTHING, Json, plain
from ..prompts.prompt import Prompt
from ..statistics.statistic import Statistic
from .claim_record import IDENTICAL, brief, claim_record, nothing
from .examples import chosen_prompts, token_strip
from .finding import Expectation, Finding, Outcome, Verdict
from .noise_floor import above_noise, noise_floor
from .sign_flips import is_paired, sign_flip_row
from .verdict import deciding_error, judge
from .view import LENSES, EvidenceName, Figure, Items, Lens, NotApplicable, Quantity, Score, View

GROWN = "grown_from"
"""The detail of a claim left open for its set having grown: how many prompts the set had before."""
BY_TOPIC = "prompts of a cluster as independent, by topic"


@dataclass(kw_only=True)
class Claim:
    """One finding on one pair, prompt set and group: what a test decides.

    ``alpha`` is the error rate that the ``family_size`` findings of its family share. Views and figures have plain
    intervals at 1 - ``alpha``; the claim and all that stands beside it is decided at 1 - ``alpha`` / ``family_size``.
    ``conclude`` takes the finished claim as plain JSON.
    """

    finding: Finding
    pair: ModelPair
    prompts: tuple[Prompt, ...]
    prompt_set: str
    group: str
    alpha: float
    family_size: int = 1
    items: Items
    evidence_name: EvidenceName = lambda role, need: None
    second: tuple[Items, str] | None = None
    """Evidence of a second measurement, for the noise floor, and what is other in it, in words."""
    expected: Expectation | None
    responses: tuple[str, str]
    """The deciding kind of response and the other kind, in words."""
    conclude: Callable[[dict[str, Json]], None]
    context: Mapping[str, Json] = field(default_factory=lambda: NOTHING)
    """What the claim rests on beside the checkpoints, for its details: vocabulary and word space, say."""
    word_vectors: str = "minilm"
    """The run's word space, as `load_word_space` takes it."""
    judges: Sequence[Judge] = ()
    """Who says whether a response follows; the first decides."""
    base_formats: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """Formats of `FORMATS` that the run asks the base in as well, with the words for the reading."""
    judge_agreement: Callable[[Judge], Mapping[str, Json] | None] = lambda judge: None
    """A judge's agreement with responses judged by hand, as plain JSON; None where it is not known."""
    grown: Callable[[], tuple[int, str] | None] = lambda: None
    """How many prompts the set had when an earlier run left the claim open, and why it cannot be decided on more."""
    agreement: Callable[[], Mapping[str, Json] | None] = lambda: None
    """For a finding that rests on an annotator: its agreement with lists labelled by hand, as plain JSON."""

    @property
    def seed(self) -> int:
        """Seed of this claim's resampling: fixed by its identity, so that it does not depend on the run's order."""
        return zlib.crc32("|".join([self.finding.id, self.pair.name, self.prompt_set, self.group]).encode())

    @property
    def level(self) -> float:
        """Coverage of the interval that decides: known before anything is measured, whatever else the run claims."""
        return 1 - self.alpha / self.family_size

    def _decisive(self, statistic: Statistic) -> Statistic:
        """A statistic with its interval at the claim's level."""
        found = statistic.intervals
        return replace(statistic, interval=found.at(self.level), level=found.coverage(self.level))

    @cached_property
    def view(self) -> View:
        """The deciding view: of attributions, levels over the user's text to the run's kind of response."""
        return View(
            pair=self.pair,
            prompts=self.prompts,
            items=self.items,
            level=1 - self.alpha,
            seed=self.seed,
            family_size=self.family_size,
            evidence_name=self.evidence_name,
        )

    def asked_otherwise(self, quantity: Callable[[str], Quantity]) -> dict[str, Quantity]:
        """Readings with the base asked in the other formats of the run; ``quantity`` takes the end of a need, as
        ``.plain``: `following(("base", f"generation{end}"), ...)`."""
        return {words: quantity(f".{name}") for name, words in self.base_formats.items()}

    def decide(
        self,
        quantity: Quantity,
        *,
        secondary: Mapping[str, Quantity] = NOTHING,
        readings: Mapping[str, Quantity] = NOTHING,
        strips: Score | None = None,
        figures: Sequence[Figure] = (),
    ) -> None:
        """Judge the finding by a quantity of the deciding view and conclude the claim.

        Beside the verdict go its sensitivity (what the other ``readings`` would say, and for attributions the same
        quantity through the other lenses), further quantities of the deciding view, token strips for a few prompts
        chosen by the paired ``strips`` score, and ``figures``.
        """
        try:
            statistic: Statistic | None = self._decisive(quantity(self.view))
        except (NotApplicable, NotInstalledError) as error:
            statistic, verdict = None, Verdict(outcome=Outcome.NOT_APPLICABLE, reason=str(error))
            drawn = [dict(figure) for figure in error.figures] if isinstance(error, NotApplicable) else []
        excluded = Counter(self.view.excluded)
        noise = self._noise_floor(quantity, statistic)
        if statistic is not None and self.identical:
            verdict = Verdict(outcome=Outcome.NOT_APPLICABLE, reason=IDENTICAL)
        elif statistic is not None:
            verdict = above_noise(self.finding, statistic, judge(self.finding, statistic), noise)
            statistic, verdict = self._not_grown(statistic, verdict)
        if statistic is not None:
            statistic, trust = self._explained(statistic)
            drawn = [*(made for figure in figures if (made := figure(self.view))), *trust]
        applicable = statistic is not None
        compared = statistic if applicable and not self.identical else None
        self.conclude(
            claim_record(
                self.finding,
                statistic,
                verdict,
                pair=self.pair.name,
                prompts=self.prompt_set,
                group=self.group,
                level=self.level,
                family_size=self.family_size,
                p_decides=None if compared is None else deciding_error(self.finding, compared.intervals),
                expected=self.expected,
                left_out=excluded,
                noise_floor=noise,
                evidence=self._evidence_names() if applicable else {},
                sensitivity=[] if compared is None else self._sensitivity(quantity, readings, compared),
                secondary=[self._beside(k, q) for k, q in secondary.items()] if applicable else [],
                examples=self._examples(strips) if applicable and strips is not None else [],
                figures=drawn,
            )
        )

    @cached_property
    def identical(self) -> bool:
        """Whether all roles that the finding compares read one and the same evidence: equal weights, asked alike."""
        roles: dict[str, set[str | None]] = {}
        for role, need in self.finding.needs:
            if split_format(need)[1] is None:
                roles.setdefault(role, set()).add(self.evidence_name(role, need))
        read = list(roles.values())
        return len(read) > 1 and None not in read[0] and all(names == read[0] for names in read)

    def _explained(self, statistic: Statistic) -> tuple[Statistic, list[dict[str, Json]]]:
        """The statistic with what stands behind it in its details, and figures of how far annotator and judges can be
        believed."""
        details, trust = dict(statistic.details), []
        if cost := self._precision_cost():
            details["precision_cost"] = cost
        if paths := self._attribution_paths():
            details["attribution_paths"] = paths
        if self._attributes and (largest := self.view.largest_beyond_text()):
            details["largest_beyond_text"] = largest
        details |= self.context
        if agreement := self.agreement():
            details["annotator"] = agreement["annotator"]
            trust.append(agreement_figure(agreement))
        if "judge" in details and (judged := self._judges_agree()):
            details["judge_agreement"] = in_short(judged)
            trust.append(judges_figure(judged))
        return replace(statistic, details=details), trust

    def _not_grown(self, statistic: Statistic, verdict: Verdict) -> tuple[Statistic, Verdict]:
        """A verdict that was reached by growing the set is none: left open, with the number of prompts before."""
        if verdict.outcome is Outcome.INCONCLUSIVE or (grown := self.grown()) is None:
            return statistic, verdict
        before, reason = grown
        details = {**statistic.details, GROWN: before}
        said = f"{reason} The interval alone says {verdict.outcome.value}."
        return replace(statistic, details=details), Verdict(outcome=Outcome.INCONCLUSIVE, reason=said)

    def _judges_agree(self) -> list[Mapping[str, Json]]:
        """Of each of the run's judges whose agreement is known, how far it can be believed."""
        return [found for judge in self.judges if (found := self.judge_agreement(judge)) is not None]

    def _evidence_names(self) -> dict[str, str | None]:
        """What the finding's needs were read from, by content: a gate knows equal evidence by it. Without the base's in
        other formats, which decides nothing and depends on the run's options."""
        deciding = ((role, need) for role, need in self.finding.needs if split_format(need)[1] is None)
        return {f"{role} {need}": self.evidence_name(role, need) for role, need in deciding}

    def _noise_floor(self, quantity: Quantity, statistic: Statistic | None) -> Mapping[str, Json] | None:
        """How far the effect moves in the second measurement; None where there is none, or nothing to compare."""
        if self.second is None or statistic is None or not math.isfinite(statistic.effect):
            return None
        items, settings = self.second
        again = replace(
            self.view, items=items, evidence_name=lambda role, need: None, excluded=Counter(), _attributions={}
        )
        return noise_floor(statistic.effect, quantity, again, settings)

    @property
    def _attributes(self) -> bool:
        return any(need.startswith("attribution") for _, need in self.finding.needs)

    def _precision_cost(self) -> dict[str, Json]:
        """Per role, what half precision cost on the few prompts that were also measured in float32."""
        result: dict[str, Json] = {}
        for role in ("base", "tuned") if self._attributes else ():
            costs = [i.values["precision_cost"] for i in (self.items(role, "attribution") or {}).values()
                     if "precision_cost" in i.values]  # fmt: skip
            if costs:
                means = {name: float(np.mean([c[name] for c in costs])) for name in costs[0]}
                result[role] = {"prompts": len(costs), **means}
        return result

    def _attribution_paths(self) -> dict[str, Json]:
        """Per role, which path took its attributions; nothing for evidence that does not say."""
        result: dict[str, Json] = {}
        for role in ("base", "tuned") if self._attributes else ():
            found = {i.values["path"] for i in (self.items(role, "attribution") or {}).values() if "path" in i.values}
            if found:
                result[role] = ", ".join(sorted(found))
        return result

    def _sensitivity(
        self, quantity: Quantity, readings: Mapping[str, Quantity], decided: Statistic
    ) -> list[dict[str, Json]]:
        fresh = replace(self.view, excluded=Counter(), _attributions={})
        rows = []
        if is_paired(decided):
            clusters = self.view.clusters
            labels = [clusters.get(i, i) for i in decided.arms[0].ids]
            rows.append(sign_flip_row(self.finding, decided, labels, seed=self.seed))
        if self.finding.items == "prompts" and any(p.subject != p.unit for p in self.prompts):
            rows.append(self._by_topic(quantity, replace(fresh, by_topic=True), decided))
        rows += [self._reading(name, reading, fresh) for name, reading in readings.items()]
        for lens in self._lenses:
            name = lens.name.format(own=self.responses[0], contrast=self.responses[1])
            rows.append(self._reading(name, quantity, replace(fresh, lens=lens, _attributions={})))
        return rows

    @property
    def _lenses(self) -> list[Lens]:
        """The lenses that show anything else of what the deciding view has read."""
        if not self._attributes:
            return []
        useful = (lens for lens in LENSES if self.view.thinks or not lens.thoughts)
        useful = (lens for lens in useful if self.view.beyond_text or lens.scale != "all")
        return [lens for lens in useful if not lens.plain_base or "plain" in self.base_formats]

    def _by_topic(self, quantity: Quantity, view: View, decided: Statistic) -> dict[str, Json]:
        """The claim with clusters held fixed, and how much wider the variance is between them: the design effect."""
        row = self._reading(BY_TOPIC, quantity, view)
        alone, together = row.get("standard_error"), decided.standard_error
        if alone and math.isfinite(together):
            row["note"] = f"design effect of the clusters {(together / alone) ** 2:.2g}"
        return row

    def _beside(self, name: str, quantity: Quantity) -> dict[str, Json]:
        """A further quantity of the deciding view, or why there is none."""
        try:
            return brief(name, self._decisive(quantity(self.view)))
        except (NotApplicable, NotInstalledError) as error:
            return nothing(name, str(error))

    def _reading(self, name: str, quantity: Quantity, view: View) -> dict[str, Json]:
        try:
            statistic = self._decisive(quantity(view))
        except (NotApplicable, NotInstalledError) as error:
            return {**nothing(name, str(error)), "verdict": Outcome.NOT_APPLICABLE.value}
        note = statistic.unit or ""
        if view.lens.release_epsilon:
            note = f"{100 * self.view.levels_moved(view):.2g} % of the levels differ"
        return brief(name, statistic, verdict=judge(self.finding, statistic).outcome, note=note)

    def _examples(self, score: Score) -> list[Json]:
        base, tuned, _ = self.view.paired(score, undefined="")
        sides = {"base": self.view.attributions("base"), "tuned": self.view.attributions("tuned")}
        texts = {p.id: p.prompt for p in self.prompts}
        return [
            plain(
                {
                    "pair": self.pair.name,
                    "prompt_set": self.prompt_set,
                    "group": self.group,
                    "id": i,
                    "why": why,
                    "prompt": texts[i],
                    "models": [token_strip(role, self.pair, sides[role][i], score) for role in ("base", "tuned")],
                }
            )
            for i, why in chosen_prompts(base, tuned, self.seed)
        ]
