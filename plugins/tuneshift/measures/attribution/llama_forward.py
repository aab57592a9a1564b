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

from ...checkpoints.llama import LlamaBlocks, LlamaLayer, Norm, Projection, Rotary
from .generic import log_probability_cotangents

LOGIT_BYTES = 32 * 2**20
"""Logits that the head works on at once, of which it has some five copies: 32 rows over 262,144 tokens."""


@dataclass(frozen=True, kw_only=True)
class NormJet:
    """A root-mean-square norm's Jacobian w r (I - u u^T / d): w its weight, u the unit input, r its inverse size.

    As x -> scale x - push_shift <push_probe, x>; its transpose takes the pull pair. All are [p, d], or [p, part, width]
    where parts of x are normed by themselves.
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
        """Tangents x[p, b, d] through the norm."""
        return _corrected_scaling(x, self.scale, self.push_probe, self.push_shift)

    def pull(self, g: Tensor) -> Tensor:
        """Cotangents g[p, b, d] through the norm."""
        return _corrected_scaling(g, self.scale, self.pull_probe, self.pull_shift)


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """cos [p, h] and sin [p, r] of a rotary embedding of a head's first r dimensions, in the order in which ``rotate``
    takes them; cos is 1 in the others."""

    cos: Tensor
    sin: Tensor

    def to(self, dtype: torch.dtype) -> Rotation:
        """The same in another dtype."""
        return Rotation(cos=self.cos.to(dtype), sin=self.sin.to(dtype))

    def scaled(self, factor: float) -> Rotation:
        """A rotation followed by a multiplication."""
        return Rotation(cos=self.cos * factor, sin=self.sin * factor)


@dataclass(frozen=True, kw_only=True)
class AttentionWeights:
    """``values`` [k, p, g, key], and ``slopes``, which multiply a change of scores where it meets the softmax: the
    values, times the derivative of a cap on scores where there is one."""

    values: Tensor
    slopes: Tensor

    def part(self, where: slice | Tensor, end: int) -> AttentionWeights:
        """Of some queries on the keys before ``end``."""
        values = self.values[:, where, :, :end]
        return replace(self, values=values, slopes=values if self._one else self.slopes[:, where, :, :end])

    def to(self, dtype: torch.dtype) -> AttentionWeights:
        """The same in another dtype."""
        values = self.values.to(dtype)
        return replace(self, values=values, slopes=values if self._one else self.slopes.to(dtype))

    def flat(self) -> tuple[Tensor, Tensor]:
        """Both as [k, p g, key]."""
        values = self.values.flatten(1, 2)
        return values, values if self._one else self.slopes.flatten(1, 2)

    @property
    def _one(self) -> bool:
        return self.slopes is self.values


@dataclass(frozen=True, kw_only=True)
class LayerJet:
    """What one layer's derivatives need of its forward pass. Queries carry the attention scaling."""

    norm: NormJet | None
    q_norm: NormJet | None  # [p, k g, h] or [p, 1, k g h]
    k_norm: NormJet | None  # [p, k, h] or [p, 1, k h]
    q_rotation: Rotation
    k_rotation: Rotation
    q: Tensor  # [k, p, g, h], rotated
    k: Tensor  # [k, p, h], rotated
    v: Tensor  # [k, p, h]
    out: Tensor  # [k, p, g, h]
    window: int | None
    cap: float | None
    stored_weights: AttentionWeights | None  # of all queries
    out_norm: NormJet | None
    mlp_norm: NormJet | None
    act: Tensor  # [p, d_mlp], derivative by the up projection
    slope: Tensor  # [p, d_mlp], derivative by the gate projection
    mlp_out_norm: NormJet | None

    def weights(self, where: slice | Tensor, end: int) -> AttentionWeights:
        """Attention weights [k, p, g, end] of some queries on the keys before ``end``; none of them sees further."""
        if self.stored_weights is not None:
            return self.stored_weights.part(where, end)
        positions = torch.arange(self.q.shape[1], device=self.q.device)
        return attention_weights(self.q[:, where], self.k[:, :end], positions[where], self.window, self.cap)

    def to(self, dtype: torch.dtype) -> LayerJet:
        """The same in another dtype."""
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        held: dict[str, Any] = {
            name: part.to(dtype)
            for name, part in parts.items()
            if isinstance(part, Tensor | NormJet | Rotation | AttentionWeights)
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
    x = blocks.embedding[tokens].to(wide) * blocks.embedding_scale
    embeds = x[:n].to(dtype)
    positions = torch.arange(len(tokens), device=tokens.device)
    rotations = {layer.rotary: _rotation(layer.rotary, x, positions, blocks.d_head) for layer in blocks.layers}
    stored = len(blocks.layers) * blocks.n_heads * len(tokens) ** 2 * dtype.itemsize <= stored_weight_bytes
    layers = []
    for layer in blocks.layers:
        x, jet = _layer(blocks, layer, x, rotations[layer.rotary], positions, stored=stored)
        layers.append(jet.to(dtype))
    at = n - 1 + columns
    normed, norm = _norm(x[at], blocks.norm)
    probabilities, cotangents = _head(blocks, normed, response[columns])
    return Jet(
        layers=tuple(layers),
        embeds=embeds,
        at=at,
        probabilities=probabilities,
        cotangents=norm.pull(cotangents[:, None])[:, 0].to(dtype),
    )


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x turned in the planes (i, i + r/2) of its first r dimensions, as many as sin has, contiguous in the order of x's
    axes; cos and sin broadcast over x."""
    turned = sin.shape[-1]
    half = turned // 2
    y = torch.mul(x, cos, out=torch.empty(x.shape, dtype=x.dtype, device=x.device))
    y[..., :half].addcmul_(x[..., half:turned], sin[..., :half], value=-1)
    y[..., half:turned].addcmul_(x[..., :half], sin[..., half:])
    return y


def attention_weights(
    q: Tensor, k: Tensor, positions: Tensor, window: int | None, cap: float | None
) -> AttentionWeights:
    """Weights [k, p, g, key] of queries q[k, p, g, h] at ``positions`` on keys k[k, key, h] at 0.. ."""
    scores = torch.bmm(q.reshape(len(q), -1, q.shape[-1]), k.transpose(1, 2)).view(*q.shape[:3], -1)
    behind = positions[:, None] - torch.arange(k.shape[1], device=k.device)
    hidden = (behind < 0 if window is None else (behind < 0) | (behind >= window))[:, None]
    if cap is None:
        values = scores.masked_fill_(hidden, -torch.inf).softmax(-1)
        return AttentionWeights(values=values, slopes=values)
    capped, slope = _capped(scores, cap)
    values = capped.masked_fill_(hidden, -torch.inf).softmax(-1)
    return AttentionWeights(values=values, slopes=slope.mul_(values))


def _capped(x: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    """cap tanh(x / cap) and its derivative."""
    bounded = torch.tanh(x / cap)
    return bounded * cap, 1 - bounded.square()


def _rotation(rotary: Rotary | None, x: Tensor, positions: Tensor, d_head: int) -> Rotation:
    """Of x's dtype; that of a layer without turns no dimension."""
    cos = x.new_ones(len(positions), d_head)
    if rotary is None:
        return Rotation(cos=cos, sin=cos[:, :0])
    turned, sin = (turn[0] for turn in rotary(x, positions[None]))
    cos[:, : turned.shape[-1]] = turned
    return Rotation(cos=cos, sin=sin)


def _layer(
    blocks: LlamaBlocks, layer: LlamaLayer, x: Tensor, k_rotation: Rotation, positions: Tensor, *, stored: bool
) -> tuple[Tensor, LayerJet]:
    """A layer's output [p, d] and its jet."""
    q_rotation = k_rotation.scaled(blocks.scaling)
    y, norm = _normed(x, layer.norm)
    q, q_norm = _normed(_project(y, layer.q), layer.q_norm)
    k, k_norm = _normed(_project(y, layer.k), layer.k_norm)
    q = q.view(len(x), blocks.n_kv_heads, -1, blocks.d_head).transpose(0, 1)
    q = rotate(q, q_rotation.cos[:, None], q_rotation.sin[:, None])
    k = rotate(k.view(len(x), -1, blocks.d_head).transpose(0, 1), k_rotation.cos, k_rotation.sin)
    v = _project(y, layer.v).view(len(x), -1, blocks.d_head).transpose(0, 1).contiguous()
    weights = attention_weights(q, k, positions, layer.window, blocks.score_cap)
    out = torch.bmm(weights.values.flatten(1, 2), v).view(q.shape)
    y, out_norm = _normed(_project(out.transpose(0, 1).reshape(len(x), -1), layer.o), layer.out_norm)
    x = x + y * blocks.residual_scale
    y, mlp_norm = _normed(x, layer.mlp_norm)
    up = _project(y, layer.up)
    act, derivative = _activation(_project(y, layer.gate), blocks.activation)
    y, mlp_out_norm = _normed(_project(act * up, layer.down), layer.mlp_out_norm)
    jet = LayerJet(
        norm=norm,
        q_norm=q_norm,
        k_norm=k_norm,
        q_rotation=q_rotation,
        k_rotation=k_rotation,
        q=q,
        k=k,
        v=v,
        out=out,
        window=layer.window,
        cap=blocks.score_cap,
        stored_weights=weights if stored else None,
        out_norm=out_norm,
        mlp_norm=mlp_norm,
        act=act,
        slope=up * derivative,
        mlp_out_norm=mlp_out_norm,
    )
    return x + y * blocks.residual_scale, jet


def _activation(x: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Of a gate, and its derivative."""
    if name == "silu":
        sigmoid = torch.sigmoid(x)
        act = x * sigmoid
        return act, sigmoid + act * (1 - sigmoid)
    # gelu_tanh: x (1 + tanh(a (x + b x^3))) / 2
    a, b = (2 / torch.pi) ** 0.5, 0.044715
    bounded = torch.tanh(a * (x + b * x**3))
    half = (1 + bounded) / 2
    return x * half, half + x * (1 - bounded.square()) * (a / 2) * (1 + 3 * b * x.square())


def _normed(x: Tensor, norm: Norm | None) -> tuple[Tensor, NormJet | None]:
    """x[p, d] through a norm over all of d or over parts as wide as its weight: [p, d], and the jet, of [p, d] or of
    [p, part, width]. None changes nothing."""
    if norm is None:
        return x, None
    width = len(norm.weight)
    if width == x.shape[-1]:
        return _norm(x, norm)
    y, jet = _norm(x.view(len(x), -1, width), norm)
    return y.flatten(1), jet


def _norm(x: Tensor, norm: Norm) -> tuple[Tensor, NormJet]:
    """The norm of x[p, ..., width] and its jet."""
    weight = norm.weight.to(x.dtype) + norm.offset
    inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps)
    unit = x * inverse
    y = weight * unit
    shift = unit * (inverse / x.shape[-1])
    scale = weight * inverse
    return y, NormJet(scale=scale, push_probe=unit, push_shift=weight * shift, pull_probe=y, pull_shift=shift)


def _head(blocks: LlamaBlocks, normed: Tensor, response: Tensor) -> tuple[Tensor, Tensor]:
    """p(y_m) [m] and d log p(y_m) / d normed[m], [m, d]: no backward pass through the head is needed for it."""
    head = blocks.head.weight.to(normed.dtype)
    probabilities, cotangents = [], []
    size = max(1, LOGIT_BYTES // (len(head) * normed.dtype.itemsize))
    for x, chosen in zip(torch.split(normed, size), torch.split(response, size), strict=True):
        logits = _project(x, blocks.head) / blocks.logit_divisor
        slope = None
        if blocks.logit_cap is not None:
            logits, slope = _capped(logits, blocks.logit_cap)
        probability, cotangent = log_probability_cotangents(logits, chosen)
        if slope is not None:
            cotangent = cotangent * slope
        probabilities.append(probability)
        cotangents.append(cotangent @ head / blocks.logit_divisor)
    return torch.cat(probabilities), torch.cat(cotangents)


def _project(x: Tensor, projection: Projection) -> Tensor:
    bias = None if projection.bias is None else projection.bias.to(x.dtype)
    return F.linear(x, projection.weight.to(x.dtype), bias)


def _corrected_scaling(x: Tensor, scale: Tensor, probe: Tensor, shift: Tensor) -> Tensor:
    """scale x - shift <probe, x> for x[p, b, d] and factors [p, d] or [p, part, width]."""
    parts = x.reshape(*x.shape[:2], *scale.shape[1:])
    scale, probe, shift = scale.unsqueeze(1), probe.unsqueeze(1), shift.unsqueeze(1)
    inner = torch.bmm(parts, probe.transpose(1, 2)) if parts.dim() == 3 else (parts * probe).sum(-1, keepdim=True)
    return (parts * scale).addcmul_(inner, shift, value=-1).view(x.shape)
