"""One forward pass of a Llama-family model, kept as the linear maps that its derivatives go through.

A jet is what the derivatives at one point need: a norm's is a scaling with a rank-one correction, an attention's its
queries, keys, values, weights and output, a gated MLP's two factors per unit. Axes are named by letter: k key-value
head, g query head within its group, p position, b derivative in a batch (one per tangent or response), h head
dimension, d model dimension.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checkpoints.llama import LlamaBlocks, LlamaLayer, Norm, Projection
from .generic import log_probability_cotangents


@dataclass(frozen=True, kw_only=True)
class NormJet:
    """A root-mean-square norm's Jacobian w r (I - u u^T / d): w its weight, u the unit input, r its inverse size.

    As x -> scale x - push_shift <push_probe, x>; its transpose takes the pull pair. All are [p, ..., d].
    """

    scale: Tensor
    push_probe: Tensor
    push_shift: Tensor
    pull_probe: Tensor
    pull_shift: Tensor

    def __getitem__(self, where: slice | Tensor) -> NormJet:
        return NormJet(**{f.name: getattr(self, f.name)[where] for f in fields(self)})

    def to(self, dtype: torch.dtype) -> NormJet:
        """The same in another dtype."""
        return NormJet(**{f.name: getattr(self, f.name).to(dtype) for f in fields(self)})

    def push(self, x: Tensor) -> Tensor:
        """Tangents x[p, b, ..., d] through the norm."""
        return _corrected_scaling(x, self.scale, self.push_probe, self.push_shift)

    def pull(self, g: Tensor) -> Tensor:
        """Cotangents g[p, b, ..., d] through the norm."""
        return _corrected_scaling(g, self.scale, self.pull_probe, self.pull_shift)


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """cos and sin [p, h] of the rotary embedding, in the order in which ``rotate`` takes them."""

    cos: Tensor
    sin: Tensor

    def to(self, dtype: torch.dtype) -> Rotation:
        """The same in another dtype."""
        return Rotation(cos=self.cos.to(dtype), sin=self.sin.to(dtype))

    def scaled(self, factor: float) -> Rotation:
        """A rotation followed by a multiplication."""
        return Rotation(cos=self.cos * factor, sin=self.sin * factor)


@dataclass(frozen=True, kw_only=True)
class LayerJet:
    """What one layer's derivatives need of its forward pass. Queries carry the attention scaling."""

    norm: NormJet
    q_norm: NormJet | None  # [p, k g, h]
    k_norm: NormJet | None  # [p, k, h]
    q: Tensor  # [k, p, g, h], rotated
    k: Tensor  # [k, p, h], rotated
    v: Tensor  # [k, p, h]
    out: Tensor  # [k, p, g, h]
    window: int | None
    stored_weights: Tensor | None  # [k, p, g, p]
    mlp_norm: NormJet
    act: Tensor  # [p, d_mlp], derivative by the up projection
    slope: Tensor  # [p, d_mlp], derivative by the gate projection

    def weights(self, where: slice | Tensor, end: int) -> Tensor:
        """Attention weights [k, p, g, end] of some queries on the keys before ``end``; none of them sees further."""
        if self.stored_weights is not None:
            return self.stored_weights[:, where, :, :end]
        positions = torch.arange(self.q.shape[1], device=self.q.device)
        return attention_weights(self.q[:, where], self.k[:, :end], positions[where], self.window)

    def to(self, dtype: torch.dtype) -> LayerJet:
        """The same in another dtype."""
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        held: dict[str, Any] = {
            name: part.to(dtype) for name, part in parts.items() if isinstance(part, Tensor | NormJet)
        }
        return replace(self, **held)


@dataclass(frozen=True, kw_only=True)
class Jet:
    """A forward pass, ready to be differentiated.

    ``embeds`` [n, d] of the prompt; ``at`` [m], rising, the positions that predict the response tokens asked for;
    ``probabilities`` [m] of these; ``cotangents`` [m, d], the derivative of log p(y_m) by the last layer's output
    there.
    """

    layers: tuple[LayerJet, ...]
    q_rotation: Rotation
    k_rotation: Rotation
    embeds: Tensor
    at: Tensor
    probabilities: Tensor
    cotangents: Tensor


def forward(
    blocks: LlamaBlocks,
    prompt: Tensor,
    response: Tensor,
    columns: Tensor,
    dtype: torch.dtype,
    *,
    stored_weight_bytes: int,
) -> Jet:
    """One forward pass over prompt [n] and response, in float32 or ``dtype`` where that is wider, for the response
    tokens at ``columns`` [m], rising.

    The jet comes in ``dtype``, but for the probabilities. Attention weights are stored while they fit
    ``stored_weight_bytes`` and computed again where they are used otherwise.
    """
    wide, n = torch.promote_types(dtype, torch.float32), len(prompt)
    tokens = torch.cat([prompt, response[:-1]])
    x = blocks.embedding[tokens].to(wide)
    embeds = x[:n].to(dtype)
    positions = torch.arange(len(tokens), device=tokens.device)
    cos, sin = (turn[0] for turn in blocks.rotary(x, positions[None]))
    k_rotation = Rotation(cos=cos, sin=sin)
    q_rotation = k_rotation.scaled(blocks.scaling)
    stored = len(blocks.layers) * blocks.n_heads * len(tokens) ** 2 * dtype.itemsize <= stored_weight_bytes
    layers = []
    for layer in blocks.layers:
        x, jet = _layer(blocks, layer, x, (q_rotation, k_rotation), positions, stored=stored)
        layers.append(jet.to(dtype))
    at = n - 1 + columns
    normed, norm = _norm(x[at], blocks.norm)
    probabilities, cotangents = _head(blocks.head, normed, response[columns])
    return Jet(
        layers=tuple(layers),
        q_rotation=q_rotation.to(dtype),
        k_rotation=k_rotation.to(dtype),
        embeds=embeds,
        at=at,
        probabilities=probabilities,
        cotangents=norm.pull(cotangents[:, None])[:, 0].to(dtype),
    )


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x turned in the planes (i, i + h/2), contiguous in the order of x's axes; cos and sin broadcast over x."""
    half = x.shape[-1] // 2
    y = torch.mul(x, cos, out=torch.empty(x.shape, dtype=x.dtype, device=x.device))
    y[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    y[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return y


def attention_weights(q: Tensor, k: Tensor, positions: Tensor, window: int | None) -> Tensor:
    """Weights [k, p, g, key] of queries q[k, p, g, h] at ``positions`` on keys k[k, key, h] at 0.. ."""
    scores = torch.bmm(q.reshape(len(q), -1, q.shape[-1]), k.transpose(1, 2)).view(*q.shape[:3], -1)
    behind = positions[:, None] - torch.arange(k.shape[1], device=k.device)
    hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
    return scores.masked_fill_(hidden[:, None], -torch.inf).softmax(-1)


def _layer(
    blocks: LlamaBlocks,
    layer: LlamaLayer,
    x: Tensor,
    rotations: tuple[Rotation, Rotation],
    positions: Tensor,
    *,
    stored: bool,
) -> tuple[Tensor, LayerJet]:
    """A layer's output [p, d] and its jet."""
    y, norm = _norm(x, layer.norm)
    q, k, v = (_project(y, p).view(len(x), -1, blocks.d_head) for p in (layer.q, layer.k, layer.v))
    q_norm = k_norm = None
    if layer.q_norm is not None and layer.k_norm is not None:
        q, q_norm = _norm(q, layer.q_norm)
        k, k_norm = _norm(k, layer.k_norm)
    q_rotation, k_rotation = rotations
    q = q.view(len(x), blocks.n_kv_heads, -1, blocks.d_head).transpose(0, 1)
    q = rotate(q, q_rotation.cos[:, None], q_rotation.sin[:, None])
    k = rotate(k.transpose(0, 1), k_rotation.cos, k_rotation.sin)
    v = v.transpose(0, 1).contiguous()
    weights = attention_weights(q, k, positions, layer.window)
    out = torch.bmm(weights.flatten(1, 2), v).view(q.shape)
    x = x + _project(out.transpose(0, 1).reshape(len(x), -1), layer.o)
    y, mlp_norm = _norm(x, layer.mlp_norm)
    gate, up = _project(y, layer.gate), _project(y, layer.up)
    sigmoid = torch.sigmoid(gate)
    act = gate * sigmoid
    jet = LayerJet(
        norm=norm,
        q_norm=q_norm,
        k_norm=k_norm,
        q=q,
        k=k,
        v=v,
        out=out,
        window=layer.window,
        stored_weights=weights if stored else None,
        mlp_norm=mlp_norm,
        act=act,
        slope=up * (sigmoid + act * (1 - sigmoid)),
    )
    return x + _project(act * up, layer.down), jet


def _norm(x: Tensor, norm: Norm) -> tuple[Tensor, NormJet]:
    """The norm of x[p, ..., d] and its jet."""
    weight = norm.weight.to(x.dtype)
    inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps)
    unit = x * inverse
    y = weight * unit
    shift = unit * (inverse / x.shape[-1])
    scale = weight * inverse
    return y, NormJet(scale=scale, push_probe=unit, push_shift=weight * shift, pull_probe=y, pull_shift=shift)


def _head(head: Projection, normed: Tensor, response: Tensor) -> tuple[Tensor, Tensor]:
    """p(y_m) [m] and d log p(y_m) / d normed[m], [m, d]: no backward pass through the head is needed for it."""
    probabilities, cotangents = log_probability_cotangents(_project(normed, head), response)
    return probabilities, cotangents @ head.weight.to(normed.dtype)


def _project(x: Tensor, projection: Projection) -> Tensor:
    bias = None if projection.bias is None else projection.bias.to(x.dtype)
    return F.linear(x, projection.weight.to(x.dtype), bias)


def _corrected_scaling(x: Tensor, scale: Tensor, probe: Tensor, shift: Tensor) -> Tensor:
    """scale x - shift <probe, x> for x[p, b, ..., d] and factors [p, ..., d]."""
    scale, probe, shift = scale.unsqueeze(1), probe.unsqueeze(1), shift.unsqueeze(1)
    inner = torch.bmm(x, probe.transpose(1, 2)) if x.dim() == 3 else (x * probe).sum(-1, keepdim=True)
    return (x * scale).addcmul_(inner, shift, value=-1)
