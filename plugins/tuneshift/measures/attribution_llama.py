"""I[n, m] of a Llama-family model by hand-written layer products, in mixed mode (the fast path).

The sequence is cut at c. Prompt positions before c go forward: the tangent along E[x_n] is carried to the keys and
values of
every layer at positions < c. Responses predicted at or after c go backward, to the inputs at positions >= c and to the
keys and values of the prefix. For n < c, I[n, m] is the inner product of the two over layers; for n >= c the backward
pass gives it outright; a response predicted before c is reached by the tangents alone. With c = M the two sides
together
are N M passes over one position, the least of all cuts.

Axes are named by letter: k key-value head, g query head within its group, p position, b derivative in the batch
(one per tangent or response), h head dimension, d model dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tuneshift.architectures import LlamaBlocks, LlamaLayer, Norm, Projection
from tuneshift.measures.attribution_generic import probability_cotangents

QUERY_BLOCK = 64
"""Queries whose attention is differentiated together: keys after a block's last query are skipped."""

BUCKETS_PER_SIDE = 6
"""Batches that a triangle of work is cut into: they waste about a twelfth of it, fewer waste more, more starve the
products."""

MIN_ROWS = 256
"""Derivatives times positions below which a smaller batch saves no time: calls then cost more than arithmetic."""


@dataclass(frozen=True, kw_only=True)
class NormJet:
    """A norm's linearisation: jvp x -> scale x - shift_t <probe_t, x>, and its transpose with the shift_r, probe_r
    pair.

    All are [position, ..., dimension].
    """

    scale: Tensor
    probe_t: Tensor
    shift_t: Tensor
    probe_r: Tensor
    shift_r: Tensor

    def __getitem__(self, where: slice | Tensor) -> NormJet:
        parts = (self.scale, self.probe_t, self.shift_t, self.probe_r, self.shift_r)
        scale, probe_t, shift_t, probe_r, shift_r = (part[where] for part in parts)
        return NormJet(scale=scale, probe_t=probe_t, shift_t=shift_t, probe_r=probe_r, shift_r=shift_r)

    def jvp(self, x: Tensor) -> Tensor:
        """Tangents x[p, b, ..., d] through the norm."""
        return _scaled_projection(x, self.scale, self.probe_t, self.shift_t)

    def vjp(self, g: Tensor) -> Tensor:
        """Cotangents g[p, b, ..., d] through the norm."""
        return _scaled_projection(g, self.scale, self.probe_r, self.shift_r)


@dataclass(frozen=True, kw_only=True)
class LayerJet:
    """What one layer's derivatives need of its forward pass; position is the first or, after heads, second axis."""

    norm: NormJet
    q: Tensor  # [k, p, g, h], rotated and scaled
    k: Tensor  # [k, p, h], rotated
    v: Tensor  # [k, p, h]
    weights: Tensor  # [k, p, g, p], softmax over the last axis
    out: Tensor  # [k, p, g, h]
    q_norm: NormJet | None  # [p, k g, h]
    k_norm: NormJet | None  # [p, k, h]
    mlp_norm: NormJet
    act: Tensor  # [p, d_mlp], derivative by the up projection
    slope: Tensor  # [p, d_mlp], derivative by the gate projection


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """cos and sin [p, h]; the query's carry the attention scaling."""

    q_cos: Tensor
    q_sin: Tensor
    k_cos: Tensor
    k_sin: Tensor


@dataclass(frozen=True, kw_only=True)
class Jet:
    """A forward pass, ready to be differentiated: layers, rotation, prompt embeddings, and the outputs' cotangents."""

    layers: tuple[LayerJet, ...]
    rotation: Rotation
    embeds: Tensor  # [n, d]
    cotangents: Tensor  # [m, d], dp(y_m)/d of the last layer's output at the position that predicts y_m


def _scaled_projection(x: Tensor, scale: Tensor, probe: Tensor, shift: Tensor) -> Tensor:
    """scale x - shift <probe, x> for x[p, b, ..., d] and factors [p, ..., d]."""
    scale, probe, shift = scale.unsqueeze(1), probe.unsqueeze(1), shift.unsqueeze(1)
    if x.dim() == 3:
        inner = torch.bmm(x, probe.transpose(1, 2))
    else:
        inner = (x * probe).sum(-1, keepdim=True)
    return (x * scale).addcmul_(inner, shift, value=-1)


def _norm(x: Tensor, norm: Norm) -> tuple[Tensor, NormJet]:
    """The norm of x[p, ..., d] and its linearisation there."""
    weight = norm.weight.to(x.dtype)
    inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps)
    unit = x * inverse
    y = weight * unit
    shift = unit * (inverse / x.shape[-1])
    return y, NormJet(scale=weight * inverse, probe_t=unit, shift_t=weight * shift, probe_r=y, shift_r=shift)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x turned in the planes (i, i + h/2), contiguous in the order of x's axes; cos and sin broadcast over x."""
    half = x.shape[-1] // 2
    y = torch.mul(x, cos, out=torch.empty(x.shape, dtype=x.dtype, device=x.device))
    y[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    y[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return y


class LlamaAttribution:
    """Exact I[n, m] of one model. ``dtype`` is that of every product; weights of another are cast layer by layer."""

    def __init__(self, blocks: LlamaBlocks, dtype: torch.dtype) -> None:
        self.blocks = blocks
        self.dtype = dtype
        self.groups = blocks.n_heads // blocks.n_kv_heads

    @torch.no_grad()
    def importance(self, prompt: Tensor, response: Tensor, *, rows: int, tangent_bytes: int) -> Tensor:
        """I[n, m]: in a batch at most ``rows`` derivatives times positions, stored tangents of at most
        ``tangent_bytes``."""
        n, m = len(prompt), len(response)
        cut = self.cut(n, m, tangent_bytes)
        jet = self.forward(prompt, response)
        result = torch.zeros(n, m, dtype=self.dtype, device=prompt.device)
        key_tangents, value_tangents = self._tangent_store(min(cut, n), cut, prompt.device)
        for first, last in _forward_buckets(min(cut, n), cut, rows):
            self._forward_mode(jet, result, key_tangents, value_tangents, (first, last, cut))
        direct = max(0, cut - n + 1)
        for first, last in _reverse_buckets(direct, m, n - 1 - cut, rows):
            self._reverse_mode(jet, result, key_tangents, value_tangents, (first, last, cut))
        return result

    def cut(self, n: int, m: int, tangent_bytes: int) -> int:
        """The cut: M, or the largest below it whose stored tangents fit ``tangent_bytes``."""
        blocks = self.blocks
        cell = 2 * blocks.n_kv_heads * blocks.d_head * len(blocks.layers) * self.dtype.itemsize
        cut = m
        while cut and min(cut, n) * cut * cell > tangent_bytes:
            cut -= 1
        return cut

    def _tangent_store(self, n: int, cut: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Zeros [layer, k, n, p, h] for the keys' and the values' tangents."""
        blocks = self.blocks
        shape = (2, len(blocks.layers), blocks.n_kv_heads, n, cut, blocks.d_head)
        keys, values = torch.zeros(shape, dtype=self.dtype, device=device)
        return keys, values

    # The forward pass

    def forward(self, prompt: Tensor, response: Tensor) -> Jet:
        """One forward pass over prompt and response with what the derivatives need of it."""
        n, m = len(prompt), len(response)
        tokens = torch.cat([prompt, response[:-1]])
        x = self.blocks.embedding[tokens].to(self.dtype)
        embeds = x[:n].clone()
        positions = torch.arange(len(tokens), device=tokens.device)
        cos, sin = (turn[0] for turn in self.blocks.rotary(x, positions[None]))
        scaling = self.blocks.scaling
        rotation = Rotation(q_cos=cos * scaling, q_sin=sin * scaling, k_cos=cos, k_sin=sin)
        layers = []
        for layer in self.blocks.layers:
            x, layer_jet = self._layer_forward(layer, x, rotation, positions)
            layers.append(layer_jet)
        normed, norm = _norm(x[n - 1 :], self.blocks.norm)
        cotangents = norm.vjp(self._head_cotangents(normed, response)[:, None])[:, 0]
        return Jet(layers=tuple(layers), rotation=rotation, embeds=embeds, cotangents=cotangents)

    def _layer_forward(
        self, layer: LlamaLayer, x: Tensor, rotation: Rotation, positions: Tensor
    ) -> tuple[Tensor, LayerJet]:
        blocks, length = self.blocks, len(x)
        heads = (length, blocks.n_kv_heads, self.groups, blocks.d_head)
        y, norm = _norm(x, layer.norm)
        q = self._apply(y, layer.q).view(length, blocks.n_heads, -1)
        k = self._apply(y, layer.k).view(length, blocks.n_kv_heads, -1)
        v = self._apply(y, layer.v).view(length, blocks.n_kv_heads, -1).transpose(0, 1).contiguous()
        q_norm = k_norm = None
        if layer.q_norm is not None and layer.k_norm is not None:
            q, q_norm = _norm(q, layer.q_norm)
            k, k_norm = _norm(k, layer.k_norm)
        q = _rotate(q.reshape(heads).transpose(0, 1), rotation.q_cos[:, None], rotation.q_sin[:, None])
        k = _rotate(k.transpose(0, 1), rotation.k_cos, rotation.k_sin)
        weights = self._weights(q, k, layer.window, positions)
        out = torch.bmm(weights.flatten(1, 2), v).view(q.shape)
        x = x + self._apply(out.transpose(0, 1).reshape(length, -1), layer.o)
        y, mlp_norm = _norm(x, layer.mlp_norm)
        gate, up = self._apply(y, layer.gate), self._apply(y, layer.up)
        sigmoid = torch.sigmoid(gate)
        act = gate * sigmoid
        slope = up * (sigmoid + act * (1 - sigmoid))
        x = x + self._apply(act * up, layer.down)
        jet = LayerJet(
            norm=norm, q=q, k=k, v=v, weights=weights, out=out, q_norm=q_norm, k_norm=k_norm,
            mlp_norm=mlp_norm, act=act, slope=slope,
        )  # fmt: skip
        return x, jet

    def _weights(self, q: Tensor, k: Tensor, window: int | None, positions: Tensor) -> Tensor:
        """Attention weights [k, p, g, p]."""
        scores = torch.bmm(q.flatten(1, 2), k.transpose(1, 2)).view(*q.shape[:3], -1)
        behind = positions[:, None] - positions
        hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
        return scores.masked_fill_(hidden[:, None], -torch.inf).softmax(-1)

    def _head_cotangents(self, normed: Tensor, response: Tensor) -> Tensor:
        """dp(y_m)/d normed[m] = p_m (W[y_m] - sum_v p_v W[v]), [m, d], without cancellation where p_m is near 1."""
        logits = self._apply(normed, self.blocks.head)
        return probability_cotangents(logits, response[:, None]) @ self._cast(self.blocks.head.weight)

    def _cast(self, weight: Tensor) -> Tensor:
        return weight.to(self.dtype)

    def _apply(self, x: Tensor, projection: Projection) -> Tensor:
        bias = None if projection.bias is None else self._cast(projection.bias)
        return F.linear(x, self._cast(projection.weight), bias)

    def _push(self, x: Tensor, projection: Projection) -> Tensor:
        """Tangents through a projection."""
        return F.linear(x, self._cast(projection.weight))

    def _pull(self, pairs: Sequence[tuple[Tensor, Projection]]) -> Tensor:
        """Sum of cotangents [..., out] through their projections."""
        shape = pairs[0][0].shape[:-1]
        total: Tensor | None = None
        for g, projection in pairs:
            flat, weight = g.reshape(-1, g.shape[-1]), self._cast(projection.weight)
            total = flat @ weight if total is None else total.addmm_(flat, weight)
        assert total is not None
        return total.view(*shape, -1)

    # Forward mode

    def _forward_mode(
        self, jet: Jet, result: Tensor, key_tangents: Tensor, value_tangents: Tensor, bucket: tuple[int, int, int]
    ) -> None:
        """Tangents of prompt positions first..last at positions first..cut, into the stores and the direct results."""
        first, last, cut = bucket
        own = torch.arange(last - first, device=result.device)
        x = jet.embeds.new_zeros(cut - first, last - first, jet.embeds.shape[1])
        x[own, own] = jet.embeds[first:last]
        start = first
        for index, (layer, layer_jet) in enumerate(zip(self.blocks.layers, jet.layers, strict=True)):
            if index + 1 == len(jet.layers):  # the last layer matters at predicting positions only
                start = max(len(jet.embeds) - 1, first)
            y = layer_jet.norm[first:cut].jvp(x)
            if index == 0:  # the embeddings' tangents are zero but at each position's own
                q, k, v = (self._push_diagonal(y, own, p) for p in (layer.q, layer.k, layer.v))
                q = q[start - first :]
            else:
                q = self._push(y[start - first :], layer.q) if start < cut else y[:0]
                k, v = self._push(y, layer.k), self._push(y, layer.v)
            k = self._rotated_tangents(k, layer_jet.k_norm, jet.rotation.k_cos, jet.rotation.k_sin, slice(first, cut))
            k = k.squeeze(2).transpose(1, 2).contiguous()  # [k, b, p, h]
            v = v.view(*v.shape[:2], self.blocks.n_kv_heads, -1).permute(2, 0, 1, 3).contiguous()  # [k, p, b, h]
            key_tangents[index, :, first:last, first:] = k
            value_tangents[index, :, first:last, first:] = v.transpose(1, 2)
            if start >= cut:
                return
            here = slice(start, cut)
            q = self._rotated_tangents(q, layer_jet.q_norm, jet.rotation.q_cos, jet.rotation.q_sin, here)
            x = x[start - first :] + self._push(_attention_jvp(layer_jet, q, k, v, start, first), layer.o)
            y = layer_jet.mlp_norm[here].jvp(x)
            y = self._push(y, layer.gate).mul_(layer_jet.slope[here, None]).addcmul_(
                self._push(y, layer.up), layer_jet.act[here, None]
            )
            x += self._push(y, layer.down)
        reached = slice(start - len(jet.embeds) + 1, cut - len(jet.embeds) + 1)
        result[first:last, reached] = torch.bmm(x, jet.cotangents[reached, :, None])[..., 0].T

    def _push_diagonal(self, y: Tensor, own: Tensor, projection: Projection) -> Tensor:
        """Tangents that are zero but at [i, i] through a projection."""
        out = y.new_zeros(*y.shape[:2], projection.weight.shape[0])
        out[own, own] = self._push(y[own, own], projection)
        return out

    def _rotated_tangents(self, x: Tensor, norm: NormJet | None, cos: Tensor, sin: Tensor, where: slice) -> Tensor:
        """Tangents [p, b, heads h] of queries or keys through their norm and the rotation: [k, p, g, b, h]."""
        x = x.view(*x.shape[:2], -1, self.blocks.d_head)
        if norm is not None:
            x = norm[where].jvp(x)
        x = x.view(*x.shape[:2], self.blocks.n_kv_heads, -1, self.blocks.d_head).permute(2, 0, 3, 1, 4)
        return _rotate(x, cos[where, None, None], sin[where, None, None])

    # Reverse mode

    def _reverse_mode(
        self, jet: Jet, result: Tensor, key_tangents: Tensor, value_tangents: Tensor, bucket: tuple[int, int, int]
    ) -> None:
        """Cotangents of responses first..last at positions cut..their own, into the result."""
        first, last, cut = bucket
        n = len(jet.embeds)
        own = torch.arange(n - 1 + first, n - 1 + last, device=result.device)
        g: Tensor | None = None
        for index in reversed(range(len(jet.layers))):
            layer, layer_jet = self.blocks.layers[index], jet.layers[index]
            wanted = n if index == 0 else n - 1 + last  # positions whose input matters
            if g is None:
                g, dk, dv = self._last_layer_vjp(layer, layer_jet, jet, jet.cotangents[first:last], own, cut)
            else:
                g, dk, dv = self._layer_vjp(layer, layer_jet, jet, g, cut, max(wanted, cut))
            if cut:
                store = key_tangents[index].flatten(2), value_tangents[index].flatten(2)
                result[:cut, first:last] += _contraction(store[0], dk) + _contraction(store[1], dv)
        if cut < n and g is not None:
            result[cut:, first:last] = torch.bmm(g[: n - cut], jet.embeds[cut:, :, None])[..., 0]

    def _layer_vjp(
        self, layer: LlamaLayer, layer_jet: LayerJet, jet: Jet, g: Tensor, cut: int, wanted: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cotangents g[p, b, d] at positions cut.. through a layer: at its input cut..wanted, prefix keys and
        values."""
        here = slice(cut, cut + len(g))
        g = self._mlp_vjp(layer, layer_jet, g, here)
        out = self._pull([(g, layer.o)]).view(*g.shape[:2], self.blocks.n_kv_heads, -1, self.blocks.d_head)
        out = out.permute(2, 0, 3, 1, 4).contiguous()
        q, k, v = _attention_vjp(layer_jet, out, cut, wanted)
        prefix = k[:, :, :cut], v[:, :cut].transpose(1, 2)
        here = slice(cut, wanted)
        g = g[: wanted - cut]
        if wanted > cut:
            rows = self._unrotated(q, layer_jet.q_norm, jet.rotation.q_cos, jet.rotation.q_sin, here)
            k = k[:, :, here].transpose(1, 2).unsqueeze(2)
            keys = self._unrotated(k, layer_jet.k_norm, jet.rotation.k_cos, jet.rotation.k_sin, here)
            values = v[:, here].permute(1, 2, 0, 3).flatten(2)
            y = self._pull([(rows, layer.q), (keys, layer.k), (values, layer.v)])
            g = g + layer_jet.norm[here].vjp(y)
        return g, *prefix

    def _last_layer_vjp(
        self, layer: LlamaLayer, layer_jet: LayerJet, jet: Jet, g: Tensor, own: Tensor, cut: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As ``_layer_vjp`` for cotangents g[b, d] that are zero but at each response's own position."""
        end = int(own[-1]) + 1
        g = self._mlp_vjp(layer, layer_jet, g[:, None], own)
        out = self._pull([(g, layer.o)]).view(len(own), self.blocks.n_kv_heads, -1, self.blocks.d_head)
        out = out.transpose(0, 1)
        weights = layer_jet.weights[:, own, :, :end]
        inner = (out * layer_jet.out[:, own]).sum(-1, keepdim=True)
        scores = torch.bmm(out.flatten(1, 2), layer_jet.v[:, :end].transpose(1, 2)).view(weights.shape)
        scores = (scores - inner).mul_(weights)
        q = torch.bmm(scores.flatten(1, 2), layer_jet.k[:, :end]).view(out.shape)
        k = scores.transpose(2, 3) @ layer_jet.q[:, own]
        v = weights.transpose(2, 3) @ out
        rows = self._unrotated(q.unsqueeze(3), layer_jet.q_norm, jet.rotation.q_cos, jet.rotation.q_sin, own)
        here = slice(cut, end)
        keys = k[:, :, here].transpose(1, 2).unsqueeze(2)
        keys = self._unrotated(keys, layer_jet.k_norm, jet.rotation.k_cos, jet.rotation.k_sin, here)
        y = self._pull([(keys, layer.k), (v[:, :, here].permute(2, 1, 0, 3).flatten(2), layer.v)])
        at = own - cut, torch.arange(len(own), device=own.device)
        y[at] += self._pull([(rows[:, 0], layer.q)])
        y = layer_jet.norm[here].vjp(y)
        y[at] += g[:, 0]
        return y, k[:, :, :cut], v[:, :, :cut]

    def _mlp_vjp(self, layer: LlamaLayer, layer_jet: LayerJet, g: Tensor, where: slice | Tensor) -> Tensor:
        """Cotangents g[p, b, d] of a layer's output at its attention's residual sum."""
        y = self._pull([(g, layer.down)])
        y = self._pull([(y * layer_jet.slope[where, None], layer.gate), (y * layer_jet.act[where, None], layer.up)])
        return layer_jet.mlp_norm[where].vjp(y).add_(g)

    def _unrotated(self, g: Tensor, norm: NormJet | None, cos: Tensor, sin: Tensor, where: slice | Tensor) -> Tensor:
        """Cotangents [k, p, g, b, h] of rotated queries or keys before rotation and norm: [p, b, heads h]."""
        g = _rotate(g.permute(1, 3, 0, 2, 4), cos[where, None, None, None], -sin[where, None, None, None])
        if norm is not None:
            g = norm[where].vjp(g.flatten(2, 3))
            return g.flatten(2)
        return g.flatten(2)


def _attention_jvp(jet: LayerJet, q: Tensor, k: Tensor, v: Tensor, start: int, first: int) -> Tensor:
    """Tangents of the attention output [p, b, heads h] at positions start.. .

    From tangents of queries q[k, p, g, b, h] at start.., of keys k[k, b, p, h] and values v[k, p, b, h] at first.. .
    """
    n_kv, length, groups, size, d_head = q.shape
    out = torch.empty(length, size, n_kv, groups, d_head, dtype=q.dtype, device=q.device)
    for low in range(0, length, QUERY_BLOCK):
        high = min(low + QUERY_BLOCK, length)
        here, end = slice(start + low, start + high), start + high
        weights = jet.weights[:, here, :, :end]
        shape = (n_kv, (high - low) * groups, size)
        scores = torch.bmm(q[:, low:high].reshape(n_kv, -1, d_head), jet.k[:, :end].transpose(1, 2)).view(*shape, end)
        keys = k[:, :, : end - first].reshape(n_kv, -1, d_head)
        own = torch.bmm(jet.q[:, here].reshape(n_kv, -1, d_head), keys.transpose(1, 2))
        scores[..., first:] += own.view(*shape, -1)
        scores *= weights.reshape(n_kv, -1, 1, end)
        inner = scores.sum(-1, keepdim=True)
        block = torch.bmm(scores.view(n_kv, -1, end), jet.v[:, :end]).view(*shape, d_head)
        block.addcmul_(inner, jet.out[:, here].reshape(n_kv, -1, 1, d_head), value=-1)
        values = v[:, : end - first].reshape(n_kv, end - first, -1)
        block.view(n_kv, shape[1], -1).baddbmm_(weights[..., first:].reshape(n_kv, shape[1], -1), values)
        out[low:high] = block.view(n_kv, high - low, groups, size, d_head).permute(1, 3, 0, 2, 4)
    return out.flatten(2)


def _attention_vjp(jet: LayerJet, g: Tensor, start: int, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cotangents of queries [k, p, g, b, h] at start..wanted, of keys [k, b, p, h] and of values [k, p, b, h] at 0.. .

    From the attention output's cotangents g[k, p, g, b, h] at positions start.. .
    """
    n_kv, length, groups, size, d_head = g.shape
    q = g.new_empty(n_kv, max(wanted - start, 0), groups, size, d_head)
    k = g.new_zeros(n_kv, size, start + length, d_head)
    v = g.new_zeros(n_kv, start + length, size, d_head)
    for low in range(0, length, QUERY_BLOCK):
        high = min(low + QUERY_BLOCK, length)
        here, end = slice(start + low, start + high), start + high
        weights = jet.weights[:, here, :, :end].reshape(n_kv, -1, end)
        block = g[:, low:high].reshape(n_kv, -1, size, d_head)
        scores = torch.bmm(block.flatten(1, 2), jet.v[:, :end].transpose(1, 2)).view(n_kv, -1, size, end)
        scores -= (block * jet.out[:, here].reshape(n_kv, -1, 1, d_head)).sum(-1, keepdim=True)
        scores *= weights[:, :, None]
        if start + low < wanted:
            rows = torch.bmm(scores.flatten(1, 2), jet.k[:, :end]).view(n_kv, high - low, groups, size, d_head)
            q[:, low:high] = rows[:, : wanted - start - low]
        queries = jet.q[:, here].reshape(n_kv, -1, d_head)
        k[:, :, :end] += torch.bmm(scores.flatten(2).transpose(1, 2), queries).view(n_kv, size, end, d_head)
        v[:, :end].flatten(2).baddbmm_(weights.transpose(1, 2), block.flatten(2))
    return q, k, v


def _contraction(tangents: Tensor, cotangents: Tensor) -> Tensor:
    """<tangent of n, cotangent of b> [n, b] for tangents [k, n, p h] and cotangents [k, b, p, h]."""
    return torch.bmm(tangents, cotangents.flatten(2).transpose(1, 2)).sum(0)


def _forward_buckets(count: int, cut: int, rows: int) -> list[tuple[int, int]]:
    """Prompt positions 0..count in batches; a batch from ``first`` works on cut - first positions."""
    buckets, first = [], 0
    side = -(-count // BUCKETS_PER_SIDE)
    while first < count:
        last = min(count, first + max(1, min(max(side, MIN_ROWS // (cut - first)), rows // (cut - first))))
        buckets.append((first, last))
        first = last
    return buckets


def _reverse_buckets(first: int, m: int, positions: int, rows: int) -> list[tuple[int, int]]:
    """Responses first..m in batches; a batch to ``last`` works on positions + last positions."""
    buckets, last = [], m
    side = -(-(m - first) // BUCKETS_PER_SIDE)
    while last > first:
        low = max(first, last - max(1, min(max(side, MIN_ROWS // (positions + last)), rows // (positions + last))))
        buckets.append((low, last))
        last = low
    return buckets
