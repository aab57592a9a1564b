"""Do heads relate instruction verbs more after tuning? From head relations to statistics and figures of a pair.

arXiv:2310.00492, section 4.2, and its release. A head relates a verb by the distinct (key word, query word) pairs that
hold the verb and that at least ``min_neurons`` of its neurons found. A head gains a verb where that number rises from
base to tuned, and loses it where it falls. ``docs/verb-relations.md`` has the formulas.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..checkpoints.refs import Layer
from ..claims.view import NotApplicable, View
from ..statistics.autocorrelated import series_slope
from ..statistics.differences import paired_difference, two_sample_difference
from ..statistics.matched import matched_difference
from ..statistics.statistic import Arm, Statistic
from ..store.evidence import EvidenceItem
from ..words.vocabulary import general_verbs, instruction_verbs

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Quantity = Callable[[View], Statistic]

GENERAL, INSTRUCTION = "general verbs", "instruction verbs"
MIN_NEURONS = 2
"""As in the release: a pair that one neuron alone finds is left to chance."""
ALL = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class SharedPairs:
    """Distinct word pairs that enough neurons of one head found, [pair] each, by head, key and query.

    ``score`` is the similarity of the two words.
    """

    head: Integers
    key: Integers
    query: Integers
    score: Floats


def shared_pairs(item: EvidenceItem, *, min_neurons: int = MIN_NEURONS) -> SharedPairs:
    """The (key word, query word) pairs that at least ``min_neurons`` neurons of a head found, each once per head.

    A pair and its reverse are two: the roles of key and query differ. Raises ValueError for min_neurons below 1.
    """
    if min_neurons < 1:
        raise ValueError(f"min_neurons counts the neurons that must agree on a pair, at least 1; got {min_neurons}")
    counts, size = item.arrays["counts"], len(item.values["words"])
    head = np.repeat(np.arange(counts.shape[0]), counts.sum(axis=1))
    key, query = item.arrays["pairs"].T.astype(np.int64)
    # A neuron lists a pair at most once, so the times that a head lists it are the neurons that found it.
    codes, first, times = np.unique((head * size + key) * size + query, return_index=True, return_counts=True)
    codes, first = codes[times >= min_neurons], first[times >= min_neurons]
    return SharedPairs(
        head=codes // size**2,
        key=codes // size % size,
        query=codes % size,
        score=item.arrays["scores"][first].astype(np.float64),
    )


def verb_counts(item: EvidenceItem, verbs: Sequence[str], *, min_neurons: int = MIN_NEURONS) -> Integers:
    """Number of a head's shared pairs that hold each verb, as key or as query word, int [head, verb].

    Zero for a verb that is not among the evidence's words.
    """
    found, size = shared_pairs(item, min_neurons=min_neurons), len(item.values["words"])
    heads = item.arrays["counts"].shape[0]
    # A pair's two words differ, so no pair is counted twice for one verb.
    cells = np.concatenate([found.head * size + found.key, found.head * size + found.query])
    by_word = np.bincount(cells, minlength=heads * size).reshape(heads, size)
    index = {word: i for i, word in enumerate(item.values["words"])}
    result = np.zeros((heads, len(verbs)), dtype=np.int64)
    known = [(column, index[verb]) for column, verb in enumerate(verbs) if verb in index]
    if known:
        columns, words = np.array(known).T
        result[:, columns] = by_word[:, words]
    return result


def relation_hits(item: EvidenceItem, verbs: Sequence[str]) -> Integers:
    """How often a layer's neurons relate each verb with a word, as key or as query, heads together, int [verb].

    Unlike `verb_counts`, without a threshold: every neuron that lists a pair counts it.
    """
    index = {word: i for i, word in enumerate(item.values["words"])}
    words = np.bincount(item.arrays["pairs"].astype(np.int64).ravel(), minlength=len(index))
    return np.array([words[index[verb]] if verb in index else 0 for verb in verbs], dtype=np.int64)


def win_rates(base_counts: Integers, tuned_counts: Integers) -> Floats:
    """Per verb, the share of heads whose count rose among those where it changed, 0..1, [verb]; NaN where none changed.

    Both are counts [head, verb] of the same heads and verbs.
    """
    gained = (tuned_counts > base_counts).sum(axis=0)
    changed = (tuned_counts != base_counts).sum(axis=0)
    return np.asarray(np.divide(gained, changed, out=np.full(gained.shape, np.nan), where=changed > 0))


def instruction_verbs_gain(layers: tuple[float, float] | None = None, *, min_neurons: int = MIN_NEURONS) -> Quantity:
    """Mean win rate of instruction verbs minus that of general verbs as frequent, in -1..1, with verbs as the items.

    Verbs share embeddings and heads, so a permutation of who is an instruction verb decides, within sets of one
    instruction verb and the general verbs nearest to it in frequency (`matched.matched_difference`; likeness is the
    logarithm of the place in the vocabulary). ``layers`` is a share [start, stop) of the depth, (0.0, 0.25) for the
    first quarter; None takes all. Verbs that no head gained or lost are left out; where that leaves none on a side, n
    is 0 and nothing is decided. The quantity raises NotApplicable for a pair whose evidence cannot be compared.
    """
    share = checked_depth(layers)

    def quantity(view: View) -> Statistic:
        verbs = verb_changes(view, min_neurons)
        general, instruction = _win_arms(view, verbs, share)
        likeness = dict(zip(verbs.names, -np.log1p(verbs.places), strict=True))
        return matched_difference(general, instruction, likeness=likeness, level=view.level, seed=view.seed)

    return quantity


def gain_over_all_verbs(*, min_neurons: int = MIN_NEURONS) -> Quantity:
    """The same with every general verb, however frequent, by Welch: as if verbs were independent draws."""

    def quantity(view: View) -> Statistic:
        general, instruction = _win_arms(view, verb_changes(view, min_neurons), ALL)
        return two_sample_difference(general, instruction, clusters=None, level=view.level)

    return quantity


def _win_arms(view: View, verbs: VerbChanges, share: tuple[float, float]) -> tuple[Arm, Arm]:
    """Win rates of the general and of the instruction verbs that changed; the others are counted."""
    verbs.note_excluded(view)
    rates = win_rates(*verbs.counts(share))
    changed = np.isfinite(rates)
    arms = []
    for kind in (GENERAL, INSTRUCTION):
        still = int(np.sum(~changed & verbs.of(kind)))
        if still:
            view.excluded[f"{kind}: no head gained or lost it"] += still
        rows = np.flatnonzero(changed & verbs.of(kind))
        ids = tuple(verbs.names[row] for row in rows.tolist())
        arms.append(Arm(label=kind, ids=ids, values=rates[rows], span=(0.0, 1.0)))
    return arms[0], arms[1]


def relations_change() -> Quantity:
    """Mean relative change of instruction verbs' relations less that of general verbs as frequent, in -2..2.

    A verb's is (tuned - base) / (tuned + base) of its `relation_hits` over all layers, in -1..1: it takes no head whose
    count crosses a threshold, so that a small change of weights, as a LoRA's, leaves nearly all verbs in. Verbs that no
    neuron relates on either side are left out. Sets and permutation as in `instruction_verbs_gain`.
    """

    def quantity(view: View) -> Statistic:
        verbs = verb_changes(view, MIN_NEURONS)
        verbs.note_excluded(view)
        sides = np.zeros((2, len(verbs.names)), dtype=np.int64)
        for _, *items in paired_layers(view):
            for side, item in enumerate(items):
                sides[side] += 0 if item is None else relation_hits(item, verbs.names)
        base, tuned = sides
        related = base + tuned > 0
        change = np.divide(tuned - base, base + tuned, out=np.zeros(len(related)), where=related)
        arms = []
        for kind in (GENERAL, INSTRUCTION):
            if unrelated := int(np.sum(~related & verbs.of(kind))):
                view.excluded[f"{kind}: no neuron relates it"] += unrelated
            rows = np.flatnonzero(related & verbs.of(kind))
            ids = tuple(verbs.names[row] for row in rows.tolist())
            arms.append(Arm(label=kind, ids=ids, values=change[rows], span=(-1.0, 1.0)))
        likeness = dict(zip(verbs.names, -np.log1p(verbs.places), strict=True))
        return matched_difference(*arms, likeness=likeness, level=view.level, seed=view.seed)

    return quantity


def gain_over_heads(*, min_neurons: int = MIN_NEURONS) -> Quantity:
    """Net gain of instruction verbs minus that of general verbs, in -2..2: mean over heads, those of a layer together.

    A head's net gain is the share of verbs it gained minus the share it lost, among those of a kind whose count
    changed in it; 0 where none did. Heads in which no verb of either kind changed are left out.
    """

    def quantity(view: View) -> Statistic:
        heads = _head_gains(view, min_neurons)
        general = Arm(label=GENERAL, ids=heads.ids, values=heads.general, span=(-1.0, 1.0))
        instruction = Arm(label=INSTRUCTION, ids=heads.ids, values=heads.instruction, span=(-1.0, 1.0))
        layers = [str(layer) for layer in heads.layer.tolist()]
        return paired_difference(general, instruction, clusters=layers, level=view.level)

    return quantity


def gain_slope(*, min_neurons: int = MIN_NEURONS) -> Quantity:
    """Least-squares slope of the layers' gain of instruction over general verbs on their quarter of the depth (0..3).

    Gain per quarter: negative where lower layers gain most. A layer's gain is the mean of its heads' (`gain_over_heads`
    has these); the layers are the units, and their errors may be correlated (`autocorrelated.series_slope`). A layer in
    which no verb changed has no gain. NaN where all layers lie in one quarter.
    """

    def quantity(view: View) -> Statistic:
        heads = _head_gains(view, min_neurons)
        score = heads.instruction - heads.general
        layers = np.unique(heads.layer)
        gains = np.array([score[heads.layer == layer].mean() for layer in layers])
        quarters = layers * 4 // heads.n_layers
        arms = tuple(
            Arm(
                label=f"quarter {q + 1}",
                ids=tuple(Layer(index=index).id for index in layers[quarters == q].tolist()),
                values=gains[quarters == q],
            )
            for q in np.unique(quarters).tolist()
        )
        return series_slope(quarters.astype(np.float64), gains, places=layers.tolist(), arms=arms, level=view.level)

    return quantity


@dataclass(frozen=True, kw_only=True)
class VerbChanges:
    """Counts of the verbs, [head, verb] of base and tuned, by index of the measured layers out of ``n_layers``."""

    names: tuple[str, ...]
    places: Integers
    """Of the verbs in the evidence's words, the most frequent first, [verb]."""
    instruction: npt.NDArray[np.bool_]
    n_layers: int
    layers: dict[int, tuple[Integers, Integers]]

    def of(self, kind: str) -> npt.NDArray[np.bool_]:
        return self.instruction if kind == INSTRUCTION else ~self.instruction

    def counts(self, share: tuple[float, float]) -> tuple[Integers, Integers]:
        """Base and tuned counts of the layers in a share of the depth, heads stacked, [head, verb]."""
        chosen = [sides for index, sides in self.layers.items() if share[0] <= index / self.n_layers < share[1]]
        empty = np.zeros((0, len(self.names)), dtype=np.int64)
        base, tuned = (np.concatenate([empty, *(sides[side] for sides in chosen)]) for side in (0, 1))
        return base, tuned

    def note_excluded(self, view: View) -> None:
        """Count the layers that were not measured by why they were not."""
        for items in (view.items(role, "relations") or {} for role in ("base", "tuned")):
            reasons = Counter(re.sub(r"layer \d+", "layers", item.left_out) for item in items.values() if item.left_out)
            for reason, count in reasons.items():
                view.excluded[reason] = max(view.excluded[reason], count)


@dataclass(frozen=True, kw_only=True)
class _HeadGains:
    """Net gains of the heads in which any verb changed, [head] each, and their ``layer`` out of ``n_layers``."""

    ids: tuple[str, ...]
    layer: Integers
    n_layers: int
    general: Floats
    instruction: Floats


def paired_layers(view: View) -> Iterator[tuple[int, EvidenceItem | None, EvidenceItem | None]]:
    """Index and both sides' relations of every layer; Nones where it was left out. NotApplicable if incomparable."""
    base, tuned = (view.items(role, "relations") for role in ("base", "tuned"))
    if base is None or tuned is None:
        raise NotApplicable("the recorded evidence has no head relations")
    if base.keys() != tuned.keys():
        raise NotApplicable(f"the base has {len(base)} layers and the tuned model {len(tuned)}; heads cannot be paired")
    for index, i in sorted((int(i.removeprefix("layer.")), i) for i in base):
        if base[i].left_out or tuned[i].left_out:
            yield index, None, None
            continue
        _require_comparable(base[i], tuned[i])
        yield index, base[i], tuned[i]


def _require_comparable(base: EvidenceItem, tuned: EvidenceItem) -> None:
    if base.values["words"] != tuned.values["words"]:
        ours, theirs = len(base.values["words"]), len(tuned.values["words"])
        raise NotApplicable(
            f"the two tokenizers leave different words to compare ({ours:,} of the vocabulary for the base, "
            f"{theirs:,} for the tuned model)"
        )
    shapes = base.arrays["counts"].shape, tuned.arrays["counts"].shape
    if shapes[0] != shapes[1]:
        raise NotApplicable(
            f"{base.id} has heads and neurons {shapes[0]} in the base and {shapes[1]} in the tuned model"
        )


def verb_changes(view: View, min_neurons: int) -> VerbChanges:
    layers = list(paired_layers(view))
    words: list[str] = next((base.values["words"] for _, base, _ in layers if base is not None), [])
    place = {word: i for i, word in enumerate(words)}
    instruction = [verb for verb in instruction_verbs() if verb in place]
    general = [verb for verb in general_verbs() if verb in place]
    names = (*instruction, *general)
    measured = {
        index: (verb_counts(base, names, min_neurons=min_neurons), verb_counts(tuned, names, min_neurons=min_neurons))
        for index, base, tuned in layers
        if base is not None and tuned is not None
    }
    is_instruction = np.arange(len(names)) < len(instruction)
    places = np.array([place[verb] for verb in names], dtype=np.int64)
    return VerbChanges(names=names, places=places, instruction=is_instruction, n_layers=len(layers), layers=measured)


def _head_gains(view: View, min_neurons: int) -> _HeadGains:
    verbs = verb_changes(view, min_neurons)
    verbs.note_excluded(view)
    ids: list[str] = []
    rows: list[tuple[int, float, float]] = []
    for index, (base, tuned) in verbs.layers.items():
        signs = np.sign(tuned - base)
        general, instruction = (_net(signs[:, verbs.of(kind)]) for kind in (GENERAL, INSTRUCTION))
        changed = signs.any(axis=1)
        for head in np.flatnonzero(changed).tolist():
            ids.append(f"layer.{index}.head.{head}")
            rows.append((index, float(general[head]), float(instruction[head])))
        if not changed.all():
            view.excluded["heads in which no verb changed"] += int(np.sum(~changed))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return _HeadGains(ids=tuple(ids), layer=columns[0].astype(np.int64), n_layers=verbs.n_layers, general=columns[1],
                      instruction=columns[2])  # fmt: skip


def _net(signs: Integers) -> Floats:
    """Mean sign over the changed verbs of each head, [head]; 0 where none changed. ``signs`` [head, verb]."""
    changed = (signs != 0).sum(axis=1)
    return np.asarray(np.divide(signs.sum(axis=1), changed, out=np.zeros(len(signs)), where=changed > 0))


def checked_depth(layers: tuple[float, float] | None) -> tuple[float, float]:
    start, stop = ALL if layers is None else layers
    if not 0 <= start < stop <= 1:
        raise ValueError(f"layers are a share [start, stop) of the depth within 0..1, as (0.0, 0.25); got {layers}")
    return start, stop
