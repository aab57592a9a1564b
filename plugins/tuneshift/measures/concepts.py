"""What a feed-forward layer writes: the principal directions of its down-projection, and the words they stand for.

arXiv:2310.00492 and its release (`ffn_explain`), exactly where the release is not: the covariance and its
eigenvectors are float64, where a float32 decomposition gets the word lists of an ill-conditioned layer wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checkpoints.loading import Checkpoint
from ..checkpoints.refs import Layer
from ..checkpoints.weight_maps import down_projection, output_embedding
from ..errors import MeasureError
from ..plain import Json
from ..store.evidence import EvidenceItem
from ..words.tokens import WordRows, word_rows
from ..words.vocabulary import load_vocabulary
from .catalogue import Take
from .subspaces import direct_match, subspace_overlap, unit_rows

WORDS_AT_ONCE = 512
"""Words whose token rows are gathered together: 512 words of 8 tokens at d_model 4096 take 134 MB in float64."""


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Principal directions of a layer, [direction, d_model] of unit length, and every direction's share of variance.

    Both by falling variance; ``share`` [d_model] sums to 1. The largest component of a direction is positive.
    """

    directions: Tensor
    share: Tensor


def concepts(checkpoint: Checkpoint, params: Mapping[str, Json], sources: Mapping[str, Json]) -> Take:
    """Concepts of a layer's feed-forward block as evidence.

    ``params``: ``concepts`` and ``top``, the directions kept per layer and the words per direction; ``rotation_k`` and
    ``noise``, the number of leading directions and the relative sizes of weight noise of the noise null.
    ``sources["vocabulary"]``: words as `load_vocabulary` takes them.

    Arrays: ``directions`` float32 [concept, d_model], unit, by falling variance; ``spectrum`` float64 [d_model], share
    of variance; ``word_scores`` float32 [concept, top], |direction . u(w)| in 0..1; ``noise_overlap`` and
    ``noise_match`` float64 [noise], how the leading directions of the same layer under noise lie to its own. Values:
    ``words`` (per concept its top words), ``d_model``, ``asked`` and ``kept`` (concepts), ``rotation_k``, ``noise``,
    ``words_left_out``.

    Raises MeasureError where no word of the vocabulary has tokens, and as `parts.down_projection`. A layer with NaN or
    infinite weights, or with none that vary, is left out.
    """
    rows = word_rows(checkpoint.tokenizer, load_vocabulary(sources["vocabulary"]).words)
    if not rows.words:
        dropped = ", ".join(f"{n} {reason}" for reason, n in rows.excluded.items())
        raise MeasureError(
            f"no word of the vocabulary {sources['vocabulary']!r} has tokens of its own in {checkpoint.ref.name!r} "
            f"({dropped or 'it is empty'}); name another with --shift-vocabulary"
        )
    embedding = output_embedding(checkpoint.model)
    directions_of_words = word_directions(embedding.to(_exact_device(embedding)), rows)

    def take(layers: Sequence[Layer], inputs: Sequence[EvidenceItem | None]) -> Iterator[EvidenceItem]:
        for layer in layers:
            weight = down_projection(checkpoint.model, layer.index)
            outputs = weight.to(device=directions_of_words.device, dtype=torch.float64).T  # [d_mlp, d_model]
            yield _item(layer, outputs, directions_of_words, rows, params)

    return take


def _item(layer: Layer, outputs: Tensor, words: Tensor, rows: WordRows, params: Mapping[str, Json]) -> EvidenceItem:
    if not bool(torch.isfinite(outputs).all()):
        return EvidenceItem(id=layer.id, left_out="its down-projection has NaN or infinite weights")
    found = principal_directions(outputs)
    if found is None:
        return EvidenceItem(id=layer.id, left_out="its neurons all write the same")
    n_neurons, d_model = outputs.shape
    # n centred neurons span n - 1 dimensions; what lies beyond is no concept but the solver's choice.
    kept = min(int(params["concepts"]), d_model, n_neurons - 1)
    directions = found.directions[:kept]
    scores, index = top_words(directions, words, int(params["top"]))
    k = min(int(params["rotation_k"]), kept)
    sizes = [float(size) for size in params["noise"]]
    overlap, match = noise_null(outputs, directions[:k], sizes, seed=layer.index)
    return EvidenceItem(
        id=layer.id,
        arrays={
            "directions": directions.float().cpu().numpy(),
            "spectrum": found.share.cpu().numpy(),
            "word_scores": scores.cpu().numpy(),
            "noise_overlap": overlap,
            "noise_match": match,
        },
        values={
            "words": [[rows.words[i] for i in line] for line in index.tolist()],
            "d_model": d_model,
            "asked": int(params["concepts"]),
            "kept": kept,
            "rotation_k": k,
            "noise": sizes,
            "words_left_out": dict(rows.excluded),
        },
    )


def principal_directions(outputs: Tensor) -> Spectrum | None:
    """Principal directions of what a layer's neurons write, ``outputs`` [d_mlp, d_model] in float64, all d_model.

    Eigenvectors of the covariance over neurons, each neuron counting once and the mean neuron taken off. None where
    the neurons do not vary.
    """
    values, vectors = torch.linalg.eigh(_covariance(outputs))
    total = values.sum()
    if not total > 0:
        return None
    directions = vectors.T.flip(0)  # [direction, d_model]; eigh sorts upwards
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return Spectrum(directions=directions * largest.sign(), share=values.flip(0).clamp(min=0) / total)


def word_directions(embedding: Tensor, rows: WordRows) -> Tensor:
    """u(w): the mean of the output embedding's rows of a word's tokens, at unit length, float64 [word, d_model].

    ``embedding`` [vocab, d_model]; rows that no token has (padding) are never read. A mean of 0 stays 0.
    """
    parts = []
    for start in range(0, len(rows.words), WORDS_AT_ONCE):
        ids = torch.from_numpy(rows.ids[start : start + WORDS_AT_ONCE]).to(embedding.device)
        mask = torch.from_numpy(rows.mask[start : start + WORDS_AT_ONCE]).to(embedding.device)
        gathered = embedding[ids].double() * mask[:, :, None]  # [word, token, d_model]
        parts.append(gathered.sum(dim=1))  # at unit length the sum is the mean
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)


def top_words(directions: Tensor, words: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Per direction the ``top`` words (or all, if fewer) of largest |direction . u(w)|: scores float32, indices.

    Both [direction, top]. Scores are compared in float32, so that words of the same embedding tie whatever the last
    bit of their product; ties go to the earlier word.
    """
    scores = (directions @ words.T).abs().float()  # [direction, word]
    best = top_indices(scores, top)
    return scores.gather(1, best), best


def top_indices(scores: Tensor, top: int) -> Tensor:
    """Columns of each row's ``top`` largest scores, falling, ties by column; ``scores`` float32, none negative."""
    # Floats that are not negative sort as their bits do. Below the bits the column, so that no two keys tie.
    keys = scores.view(torch.int32).long() << 32
    keys += torch.arange(scores.shape[1] - 1, -1, -1, device=scores.device)
    return keys.topk(min(top, scores.shape[1]), dim=1).indices


def noise_null(
    outputs: Tensor, directions: Tensor, sizes: Sequence[float], *, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Overlap and direct match of a layer's leading directions with those of the layer plus noise, both [noise].

    ``directions`` [k, d_model] are the layer's own. Noise is Gaussian, the same for every weight, with a Frobenius norm
    of ``sizes`` times that of ``outputs`` [d_mlp, d_model]; drawn on the CPU, so that every device has the same.
    """
    generator = torch.Generator().manual_seed(seed)
    own = unit_rows(directions.cpu().numpy())
    rms = float(outputs.square().mean().sqrt())
    overlap, match = [], []
    for size in sizes:
        noise = torch.randn(outputs.shape, generator=generator).to(outputs)
        noisy = _leading(outputs + size * rms * noise, len(own))
        overlap.append(subspace_overlap(own, noisy))
        match.append(direct_match(own, noisy))
    return np.array(overlap), np.array(match)


def _leading(outputs: Tensor, k: int) -> npt.NDArray[np.float64]:
    """The ``k`` leading principal directions [k, d_model], of any sign.

    A CPU finds a quarter of the eigenvectors in a third of the time of all; a GPU has no such routine.
    """
    covariance = _covariance(outputs)
    if covariance.device.type != "cpu":
        return unit_rows(torch.linalg.eigh(covariance).eigenvectors.T.flip(0)[:k].cpu().numpy())
    from scipy.linalg import eigh

    d_model = len(covariance)
    _, vectors = eigh(covariance.numpy(), subset_by_index=(d_model - k, d_model - 1))
    return unit_rows(vectors.T[::-1])


def _covariance(outputs: Tensor) -> Tensor:
    """Covariance over neurons, [d_model, d_model], times their number."""
    centred = outputs - outputs.mean(dim=0)
    return centred.T @ centred


def _exact_device(weight: Tensor) -> torch.device:
    """Where float64 is computed: the weights' own device, or the CPU where that has none (mps)."""
    return torch.device("cpu") if weight.device.type == "mps" else weight.device
