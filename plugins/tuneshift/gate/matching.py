"""Which parts of two run records can be compared: pairs, prompt sets, items. Refusals say what differs and what to do.

Reads records only. Items are matched by the hash of what their values rest on (text, reference, spans, rules), so that
an item that was edited under its old id is not taken for the same one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError, did_you_mean
from ..plain import NOTHING, Json
from ..run_record import RunRecord

Part = Mapping[str, Json]

RESTS_ON = {"attribution": "generation", "annotation": "concepts"}
"""Measures whose numbers change with another's version."""

SETTINGS = {
    "response": "--shift-response",
    "dtype": "--shift-dtype",
    "judges": "--shift-judge",
    "rules": "--shift-rules",
    "annotator": "--shift-annotator",
}
"""Settings of a run that change what is measured, with the option that sets them."""

FORMAT = {
    "chat_date": "the date in the chat format",
    "chat_template_kwargs": "the variables of the chat format",
}
"""What a checkpoint's record holds of its chat format beside the template."""

SHOWN = 5
"""Ids that a message names."""


@dataclass(frozen=True, kw_only=True)
class MatchedItems:
    """How the items of a prompt set fall on a baseline's.

    ``baseline_id`` maps an item's id to that of the same item in the baseline, ``clusters`` an id to what counts as one
    draw where the prompt set's clusters, its tasks say, are held fixed: its topic; ``strata`` an id to its cluster.
    Both are the baseline's, whose seal covers them: an item's hash does not, and with all items relabelled to one
    topic nothing could be shown of them. ``relabelled`` items have another topic or cluster in this run. ``new`` and
    ``changed`` are ids of this run, ``gone`` ids of the baseline; a changed item has its id in both and another hash.
    ``of`` is the name of the baseline's prompt set.
    """

    of: str
    baseline_id: Mapping[str, str]
    clusters: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    strata: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether both sides hold the same items."""
        return not (self.new or self.gone or self.changed)


def named(ids: Sequence[str]) -> str:
    """The first few ids, and how many more there are."""
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more


def match_pair(pair: Part, baseline: RunRecord, name: str) -> Part:
    """The baseline's pair that a pair is compared with: that of the same name, else the one with the same base.

    Raises UsageError where there is none or more than one.
    """
    same_name = [other for other in baseline.pairs if other["name"] == pair["name"]]
    same_base = [other for other in baseline.pairs if _print(other, "base") == _print(pair, "base")]
    found = same_name or same_base
    if len(found) == 1:
        return found[0]
    known = [str(other["name"]) for other in baseline.pairs]
    if found:
        raise UsageError(
            f"Baseline {name!r} has {len(found)} pairs on the base of pair {pair['name']!r}, and none of its name "
            f"({', '.join(known)}). Name the pair as one of them in a pair file."
        )
    if len(known) == 1:
        return baseline.pairs[0]
    raise UsageError(
        f"Baseline {name!r} has no pair {pair['name']!r} and none on its base checkpoint; "
        f"{did_you_mean(pair['name'], known)}."
    )


def check_pair(pair: Part, other: Part, name: str) -> None:
    """Raise UsageError where a pair and the baseline's differ in the base checkpoint, a sibling that both have, a chat
    format, a dtype, a backend, the length of responses, the number of their tokens that are attributed, or have no
    prompt in common; the message names all that differs. The tuned checkpoint may be another one: it
    is what is compared."""
    differs = []
    # A role is what the record describes by a fingerprint.
    for role in [r for r, here in pair.items() if isinstance(here, Mapping) and "fingerprint" in here and r in other]:
        here, there = pair[role], other[role]
        if role != "tuned" and _print(pair, role) != _print(other, role):
            differs.append(
                f"the {role} checkpoint ({here['name']} {_print(pair, role)[:12]} here, {there['name']} "
                f"{_print(other, role)[:12]} there)"
            )
        if here.get("chat_template") != there.get("chat_template"):
            differs.append(f"the chat format of the {role} checkpoint ({_format(here)} here, {_format(there)} there)")
        differs += [
            f"{what} of the {role} checkpoint ({here.get(key) or 'none'} here, {there.get(key) or 'none'} there)"
            for key, what in FORMAT.items()
            if (here.get(key) or None) != (there.get(key) or None)
        ]
        if here.get("dtype") != there.get("dtype"):
            differs.append(f"the dtype of the {role} checkpoint ({here.get('dtype')} here, {there.get('dtype')} there)")
        if here.get("backend") != there.get("backend"):
            differs.append(f"the backend of the {role} checkpoint ({_backend(here)} here, {_backend(there)} there)")
    lengths = [side.get("settings", {}).get("max_new_tokens") for side in (pair, other)]
    if lengths[0] != lengths[1]:
        differs.append(f"the longest response ({lengths[0]} tokens here, {lengths[1]} there; --shift-max-new-tokens)")
    attributed = [side.get("settings", {}).get("attribute_tokens") or "all" for side in (pair, other)]
    if attributed[0] != attributed[1]:
        differs.append(
            f"the response tokens that importance is taken for ({attributed[0]} here, {attributed[1]} there; "
            "--shift-attribute-tokens)"
        )
    own = [prompts for prompts in pair["prompts"] if not prompts.get("brought")]
    if own and all(match_prompts(prompts, other, name) is None for prompts in own):
        sets = [", ".join(str(p["name"]) for p in side["prompts"]) or "none" for side in (pair, other)]
        differs.append(f"the prompts: no item is the same ({sets[0]} here, {sets[1]} there)")
    if differs:
        raise UsageError(_refusal(name, f"pair {pair['name']!r}", differs))


def check_settings(run: Part, baseline: RunRecord, name: str) -> None:
    """Raise UsageError where two runs measured otherwise, other versions of the measures that the baseline's claims
    rest on or other settings, or decide at another error rate; the message names all that differs."""
    for what, side in (("this run", run), (f"baseline {name!r}", baseline.run)):
        if not side.get("measures"):
            raise UsageError(
                f"The record of {what} does not say how it was measured: an older tuneshift wrote it. Run the suites "
                "again; what is in the store is not measured again."
            )
    used = {measure for claim in baseline.claims for measure in claim.get("measures", ())}
    used |= {RESTS_ON[measure] for measure in used if measure in RESTS_ON}
    here, there = run.get("measures", {}), baseline.run.get("measures", {})
    differs = [
        f"the measure {m} (version {here.get(m)} here, {there.get(m)} there)"
        for m in sorted(used)
        if here.get(m) != there.get(m)
    ]
    mine, theirs = run.get("settings", {}), baseline.run.get("settings", {})
    differs += [
        f"{setting} ({_shown(mine.get(setting))} here, {_shown(theirs.get(setting))} there; {option})"
        for setting, option in SETTINGS.items()
        if mine.get(setting) != theirs.get(setting)
    ]
    # The rate that a baseline was saved for is that of its plan and of its looks: a run that chose another after seeing
    # what it found would be gated by another rule.
    rates = [side.get("alpha") for side in (run, baseline.run)]
    if rates[0] != rates[1]:
        differs.append(f"the error rate ({rates[0]} here, {rates[1]} there; --shift-alpha)")
    if differs:
        raise UsageError(_refusal(name, "this run", differs))


def match_prompts(prompts: Part, other: Part, name: str) -> MatchedItems | None:
    """How a prompt set's items fall on the baseline pair's set of the same name, or else of most items in common.

    None where no item is the same. Raises UsageError for a record that does not hold the items.
    """
    candidates = [p for p in other["prompts"] if p["name"] == prompts["name"]] or other["prompts"]
    found = [match_items(prompts, candidate, name) for candidate in candidates]
    best = max(found, key=lambda match: len(match.baseline_id), default=None)
    return best if best is not None and best.baseline_id else None


def counterparts(
    pairs: Sequence[Part], baseline: RunRecord, name: str
) -> dict[tuple[str, str], list[tuple[Part, str]]]:  # fmt: skip
    """(pair, prompt set) in the baseline -> those of a run, the pair and the set's name, that are compared with it:
    several where a run has two checkpoints on one base; none without a common item."""
    found: dict[tuple[str, str], list[tuple[Part, str]]] = {}
    for pair in pairs:
        other = match_pair(pair, baseline, name)
        found.setdefault((other["name"], "weights"), []).append((pair, "weights"))
        for prompts in pair["prompts"]:
            if (items := match_prompts(prompts, other, name)) is not None:
                found.setdefault((other["name"], items.of), []).append((pair, str(prompts["name"])))
    return found


def match_items(prompts: Part, other: Part, name: str) -> MatchedItems:
    """The items of two prompt sets matched by hash; an item whose id is another one now counts as the same where its
    hash occurs once on both sides."""
    here, there = _items(prompts, name), _items(other, name)
    mine, theirs = (dict(zip(side["ids"], side["sha256"], strict=True)) for side in (here, there))
    matched = {i: i for i, hashed in mine.items() if theirs.get(i) == hashed}
    taken = set(matched.values())
    rest = {i: hashed for i, hashed in mine.items() if i not in matched}
    free = {i: hashed for i, hashed in theirs.items() if i not in taken}
    counts = [Counter(side.values()) for side in (rest, free)]
    once = {hashed: i for i, hashed in free.items() if counts[1][hashed] == 1}
    matched |= {i: once[hashed] for i, hashed in rest.items() if counts[0][hashed] == 1 and hashed in once}
    taken = set(matched.values())
    left = [i for i in mine if i not in matched]
    changed = tuple(i for i in left if i in theirs and i not in taken)
    baseline_id = {i: matched[i] for i in mine if i in matched}
    (topics, clusters), now = _labels(there), _labels(here)
    return MatchedItems(
        of=str(other["name"]),
        baseline_id=baseline_id,
        clusters={i: topics[was] for i, was in baseline_id.items()},
        strata={i: clusters[was] for i, was in baseline_id.items()},
        relabelled=tuple(
            i
            for i, was in baseline_id.items()
            # An item that is a draw by itself is labelled by its id, which may be another one now.
            if any(
                before[was] != after[i] and (before[was], after[i]) != (was, i)
                for before, after in zip((topics, clusters), now, strict=True)
            )
        ),
        new=tuple(i for i in left if i not in changed),
        gone=tuple(i for i in theirs if i not in taken and i not in changed),
        changed=changed,
    )


def _labels(items: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Item id -> its topic, and item id -> its cluster."""
    topics, clusters = (dict(zip(items["ids"], items[label], strict=True)) for label in ("topics", "clusters"))
    return topics, clusters


def _items(prompts: Part, name: str) -> Mapping[str, Any]:
    items = prompts.get("items")
    if not isinstance(items, Mapping):
        raise UsageError(
            f"Baseline {name!r} cannot be compared: a run record without the hashes of the items of prompt set "
            f"{prompts.get('name')!r} was written by an older tuneshift. Run the suites again with --shift-save."
        )
    return items


def _print(pair: Part, role: str) -> str:
    return str(pair[role]["fingerprint"])


def _format(checkpoint: Part) -> str:
    template = checkpoint.get("chat_template")
    if template is None:
        return "plain prompts"
    text = str(template)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _backend(checkpoint: Part) -> str:
    backend = checkpoint.get("backend")
    if backend is None:
        return "our own passes"
    args = ",".join(f"{name}={value}" for name, value in backend["args"].items())
    return f"{backend['name']}:{args}" if args else str(backend["name"])


def other_versions(here: Part, there: Part) -> dict[str, list[Json]]:
    """Package -> its versions [here, there] where two runs were not measured with the same. No reason to refuse: what
    the versions changed shows in the effects."""
    return {p: [here.get(p), there.get(p)] for p in sorted({*here, *there}) if here.get(p) != there.get(p)}


def _shown(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "by default"
    return str(value)


def _refusal(name: str, what: str, differs: Sequence[str]) -> str:
    listed = "; ".join(differs)
    return (
        f"Baseline {name!r} cannot be compared with {what}: they differ in {listed}. Measure as the baseline was "
        f"measured, or save a new one (--shift-save=NAME)."
    )
