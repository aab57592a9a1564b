"""Head relations: which pairs of similar words the query and key maps of each attention head react to together.

For every head and neuron (one of its d_head dimensions): the words with the largest activations on the query and on
the key side, and of their pairs those that resemble each other in a word space that knows nothing of the checkpoint.
arXiv:2310.00492, section 3.2, and its release's ``att_explain``. Rotary and other position codes are ignored, as
there, and so are biases: a word's position is not part of the question. Read from weights alone, layer by layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoints.loading import Checkpoint
from ..checkpoints.refs import Layer
from ..checkpoints.weight_maps import AttentionMap, attends, attention_map, input_embedding
from ..errors import MeasureError
from ..plain import Json
from ..store.evidence import EvidenceItem
from ..words.spaces import load_word_space, similarity_thresholds
from ..words.tokens import WordRows, word_rows
from ..words.vocabulary import load_vocabulary
from .catalogue import Take

NO_ATTENTION = "layer without attention"
ACTIVATIONS_AT_ONCE = 1 << 20
"""Activations in a block: 4 MB of float32, small enough that an allocator hands the same memory out again."""
GATHERED_AT_ONCE = 1 << 18
"""Numbers of word vectors in a block on a CPU: 1 MB, so that its caches hold a block."""
GATHERED_ON_DEVICE = 1 << 26
"""The same on a GPU, which small blocks would keep waiting."""
NEAR = 1e-4
"""Candidates are found in float32 with this much room under the threshold; float64 decides. Far above the error of a
product of unit vectors (1e-6), far below the spread of similarities (0.1)."""


@dataclass(frozen=True, kw_only=True)
class WordTable:
    """Words with their vectors (float32 [word, dim], unit length) and similarity thresholds (float32 [word])."""

    words: tuple[str, ...]
    vectors: Tensor
    thresholds: Tensor

    def keep(self, words: Sequence[str], device: torch.device) -> WordTable:
        """The table of some of its words, on a device."""
        index = {word: i for i, word in enumerate(self.words)}
        rows = [index[word] for word in words]
        return WordTable(
            words=tuple(words), vectors=self.vectors[rows].to(device), thresholds=self.thresholds[rows].to(device)
        )


@dataclass(frozen=True, kw_only=True)
class LayerRelations:
    """One layer's word pairs, ordered by head, neuron and rank.

    ``pairs`` [pair, 2]: key word and query word; ``scores`` float32 [pair]: their similarity; ``counts`` [head,
    neuron].
    """

    pairs: Tensor
    scores: Tensor
    counts: Tensor


def relations(checkpoint: Checkpoint, params: Mapping[str, Json], sources: Mapping[str, Json]) -> Take:
    """Word pairs of every head and neuron as evidence, one item per layer.

    ``params``: ``top`` words per side of a neuron, ``z`` and ``frequent`` of the similarity thresholds, and what
    identifies vocabulary and word space; ``sources`` names these two. Arrays: ``pairs`` int32 [pair, 2] (key word,
    query word, as indices into ``words``), ``scores`` float32 [pair], ``counts`` int32 [head, neuron]. Values:
    ``words``, ``left_out`` (reason -> number of words), ``note`` (empty, or why a norm's scale was taken as 1). A layer
    without attention or with activations that are not finite is left out. Computed in float32 whatever the weights'
    dtype.

    Thresholds belong to the word space alone: they come from all its words, before the tokenizer drops any. A word is
    dropped where it has no vector or no token, where it holds the unknown token, and where its tokens equal an
    earlier word's (the two cannot be told apart). Raises MeasureError where no word remains.
    """
    table, left_out = _words(params, sources)
    rows = word_rows(checkpoint.tokenizer, table.words)
    left_out.update(rows.excluded)
    if not rows.words:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise MeasureError(
            f"no word of the vocabulary is left for {checkpoint.ref.name}: {sum(left_out.values())} words were dropped "
            f"({reasons}). Give a vocabulary in the checkpoint's language and a word space that has its words."
        )
    embeddings = word_embeddings(input_embedding(checkpoint.model), rows)
    kept = table.keep(rows.words, embeddings.device)
    values: dict[str, Json] = {"words": list(kept.words), "left_out": dict(left_out)}
    top = int(params["top"])

    def take(units: Sequence[Layer], inputs: Sequence[EvidenceItem | None]) -> Iterator[EvidenceItem]:
        for layer in units:
            if not attends(checkpoint.model, layer.index):
                yield EvidenceItem(id=layer.id, left_out=NO_ATTENTION)
                continue
            maps = attention_map(checkpoint.model, layer.index)
            found = layer_relations(maps, embeddings, kept, top=top)
            if found is None:
                yield EvidenceItem(id=layer.id, left_out=f"activations of layer {layer.index} are NaN or infinite")
            else:
                yield _item(layer, found, {**values, "note": maps.note})

    return take


def word_embeddings(weight: Tensor, rows: WordRows) -> Tensor:
    """Mean row of ``weight`` [vocab, d_model] over each word's tokens, float32 [word, d_model]."""
    flat = torch.from_numpy(rows.ids[rows.mask]).to(weight.device)
    ends = torch.from_numpy(rows.mask.sum(axis=1).cumsum()).to(weight.device)
    used, places = torch.unique(flat, return_inverse=True)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return torch.nn.functional.embedding_bag(places, weight[used].float(), starts, mode="mean")


def layer_relations(maps: AttentionMap, embeddings: Tensor, table: WordTable, *, top: int) -> LayerRelations | None:
    """Pairs of similar words that each neuron of a layer's heads reacts to on both sides; None for NaN or infinity.

    A neuron's activations are (embeddings * norm) q^T and, from its head's key map, (embeddings * norm) k^T. On each
    side the ``top`` words by size, ties by word index; a pair of one from each is kept where the words differ, the
    activations have the same sign and the similarity exceeds both words' thresholds. A neuron's pairs are ordered by
    falling similarity, then query rank, then key rank. ``embeddings`` float32 [word, d_model].
    """
    heads, d_head, _ = maps.q.shape
    scaled = (embeddings * maps.norm.to(embeddings.device, torch.float32)).T.contiguous()  # [d_model, word]
    queries = _top(maps.q.flatten(0, 1), scaled, top)
    keys = _top(maps.k.flatten(0, 1), scaled, top)
    if queries is None or keys is None:
        return None
    del scaled
    # [kv head, neuron] -> [head, neuron]: each key head serves a run of query heads.
    key_neurons = torch.arange(len(keys[0]), device=keys[0].device).view(-1, d_head)
    served = key_neurons.repeat_interleave(heads // len(key_neurons), 0).flatten()
    step = max(1, _gathered(table.vectors) // (queries[0].shape[1] * table.vectors.shape[1]))
    parts = [
        _candidates((queries[0][rows], queries[1][rows]), (keys[0][served[rows]], keys[1][served[rows]]), table, start)
        for start in range(0, heads * d_head, step)
        for rows in [slice(start, start + step)]
    ]
    neurons, query, key = (torch.cat(column) for column in zip(*parts, strict=True))
    neurons, pairs, scores = _ranked(neurons, query, key, table)
    counts = torch.bincount(neurons, minlength=heads * d_head).view(heads, d_head)
    return LayerRelations(pairs=pairs, scores=scores, counts=counts)


def _words(params: Mapping[str, Json], sources: Mapping[str, Json]) -> tuple[WordTable, Counter[str]]:
    """The vocabulary's words that the word space has, with their thresholds, and the count of those it has not."""
    vocabulary = load_vocabulary(sources["vocabulary"])
    space = load_word_space(sources["word_vectors"], vocabulary.words)
    thresholds = similarity_thresholds(space.vectors, frequent=int(params["frequent"]), z=float(params["z"]))
    table = WordTable(
        words=space.words, vectors=torch.from_numpy(space.vectors), thresholds=torch.from_numpy(thresholds)
    )
    missing = len(vocabulary.words) - len(space.words)
    return table, Counter({"no word vector": missing} if missing else {})


def _top(weight: Tensor, scaled: Tensor, top: int) -> tuple[Tensor, Tensor] | None:
    """Per neuron its top words by size, ties by index, and the signs of their activations; None if not finite.

    ``weight`` [neuron, d_model], ``scaled`` [d_model, word]; both results [neuron, top], signs as int8.
    """
    size = scaled.shape[1]
    top = min(top, size)
    step = max(1, ACTIVATIONS_AT_ONCE // size)
    indices, signs = [], []
    for start in range(0, len(weight), step):
        rows = weight[start : start + step].to(scaled.device, torch.float32)
        activations = rows @ scaled  # [neuron, word]
        found = _largest(activations.abs(), top)
        values = activations.gather(1, found)
        # NaN and infinity sort as the largest, so that they are seen here wherever they are.
        if not bool(torch.isfinite(values).all()):
            return None
        indices.append(found)
        signs.append(values.sign().to(torch.int8))
    return torch.cat(indices), torch.cat(signs)


def _largest(sizes: Tensor, top: int) -> Tensor:
    """Indices of the ``top`` largest of each row, by falling size and then by index, [row, top]."""
    more = min(top + 1, sizes.shape[1])
    values, found = torch.topk(sizes, more, dim=1)
    # topk breaks ties as it likes: those within are sorted below, rows with one across the boundary sorted whole.
    tied = (values[:, top - 1] == values[:, -1]) if more > top else torch.zeros_like(values[:, 0], dtype=torch.bool)
    found = found[:, :top].sort(dim=1).values
    order = sizes.gather(1, found).sort(dim=1, descending=True, stable=True).indices
    found = found.gather(1, order)
    if bool(tied.any()):
        found[tied] = sizes[tied].sort(dim=1, descending=True, stable=True).indices[:, :top]
    return found


def _candidates(
    queries: tuple[Tensor, Tensor], keys: tuple[Tensor, Tensor], table: WordTable, start: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Neuron, query word and key word of a block's pairs that may pass, by neuron, query rank and key rank.

    ``queries`` and ``keys`` are word indices and signs, [neuron, top]; ``start`` is the block's first neuron.
    """
    sides = [table.vectors.index_select(0, side[0].flatten()).view(*side[0].shape, -1) for side in (queries, keys)]
    similarity = torch.bmm(sides[0], sides[1].transpose(1, 2))  # [neuron, query, key]
    limits = [table.thresholds[side[0]] - NEAR for side in (queries, keys)]
    mask = similarity > limits[0][:, :, None]
    mask &= similarity > limits[1][:, None, :]
    mask &= queries[1][:, :, None] * keys[1][:, None, :] > 0
    mask &= queries[0][:, :, None] != keys[0][:, None, :]
    neurons, query_ranks, key_ranks = mask.nonzero(as_tuple=True)
    return neurons + start, queries[0][neurons, query_ranks], keys[0][neurons, key_ranks]


def _ranked(neurons: Tensor, query: Tensor, key: Tensor, table: WordTable) -> tuple[Tensor, Tensor, Tensor]:
    """Neuron, (key word, query word) and similarity of the candidates that pass, by neuron and falling similarity."""
    scores = _exact(query, key, table.vectors)
    kept = scores > torch.maximum(table.thresholds[query], table.thresholds[key])
    neurons, query, key, scores = neurons[kept], query[kept], key[kept], scores[kept]
    # Stable sorts leave equal similarities in the candidates' order: by query rank, then key rank.
    order = scores.sort(descending=True, stable=True).indices
    order = order[neurons[order].sort(stable=True).indices]
    return neurons[order], torch.stack([key, query], dim=1)[order], scores[order]


def _exact(a: Tensor, b: Tensor, vectors: Tensor) -> Tensor:
    """Similarities of word pairs, float32 [pair], summed in float64: one number per pair whatever block it was in.

    A float32 product of matrices rounds by position; a pair could then pass in one neuron and fail in another.
    """
    size = len(vectors)
    codes, places = torch.unique(torch.minimum(a, b) * size + torch.maximum(a, b), return_inverse=True)
    scores = torch.empty(len(codes), dtype=torch.float32, device=vectors.device)
    step = max(1, _gathered(vectors) // vectors.shape[1])
    for start in range(0, len(codes), step):
        block = codes[start : start + step]
        products = vectors.index_select(0, block // size).double() * vectors.index_select(0, block % size)
        scores[start : start + step] = products.sum(dim=1).float()
    return scores[places]


def _gathered(vectors: Tensor) -> int:
    return GATHERED_AT_ONCE if vectors.device.type == "cpu" else GATHERED_ON_DEVICE


def _item(layer: Layer, found: LayerRelations, values: Mapping[str, Json]) -> EvidenceItem:
    return EvidenceItem(
        id=layer.id,
        arrays={
            "pairs": found.pairs.to(torch.int32).cpu().numpy(),
            "scores": found.scores.cpu().numpy(),
            "counts": found.counts.to(torch.int32).cpu().numpy(),
        },
        values=values,
    )
