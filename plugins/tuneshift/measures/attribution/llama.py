"""I[n, m] of a Llama-family model by hand-written layer products, in mixed mode (the fast path).

The sequence is cut at c. Prompt positions before c go forward: the tangent along E[x_n] is carried to the keys and
values of every layer at positions < c. Responses predicted at or after c go backward, to the inputs at positions >= c
and to the keys and values of the prefix. For n < c, I[n, m] is the inner product of the two over layers; for n >= c the
backward pass gives it outright; a response predicted before c is reached by the tangents alone. With c = M the two
sides together are N M passes over one position, the least of all cuts.

Each prompt token before the cut and each response token behind it is a pass of its own, so those that are not asked for
cost nothing. With fewer prompt tokens the best cut lies later, with fewer response tokens earlier.

Two layers do less. The first sees tangents at each position's own row only, and its input is asked for at prompt
positions only; the last matters at predicting positions only, but for its keys and values.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checkpoints.llama import LlamaBlocks, LlamaLayer, Projection
from .llama_forward import Jet, LayerJet, NormJet, Rotation, forward, rotate

QUERY_BLOCK = 64
"""Queries whose attention is differentiated together: keys after a block's last query are skipped."""

WEIGHTS_COST, CALLS_COST = 16, 13_000_000
"""What one more batch costs, in passes over one position: to read the weights again (90 GFLOP/s of a CPU thread against
10 GB/s), and, over the weights of a layer, its calls (40 of some 7 us). A batch grows while it wastes no more."""
GPU_COST = 400
"""Times as many passes for the calls: a GPU is taken to do 400 times the arithmetic of a CPU thread in their time."""


@dataclass(frozen=True, kw_only=True)
class Tangents:
    """Of the keys and values at positions from ``first`` to the cut, by a batch of prompt tokens: ``stored`` [key or
    value, layer, k, n, p, h], for ``rows`` of the result."""

    rows: slice
    first: int
    stored: Tensor

    def contraction(self, layer: int, k: Tensor, v: Tensor) -> Tensor:
        """<tangent of n, cotangent of b> [n, b] at a layer, from cotangents of keys and values [k, b, p, h] at 0.. ."""
        parts = (
            torch.bmm(tangent.flatten(2), cotangent[:, :, self.first :].flatten(2).transpose(1, 2)).sum(0)
            for tangent, cotangent in zip(self.stored[:, layer], (k, v), strict=True)
        )
        return next(parts) + next(parts)


class LlamaAttribution:
    """Exact I[n, m] of one model.

    Derivatives are carried in ``dtype``; the forward pass is in float32 even where that is narrower, since half
    precision there costs ten times what it costs in the derivatives. Weights of another dtype are cast at each use.
    """

    def __init__(self, blocks: LlamaBlocks, dtype: torch.dtype) -> None:
        self.blocks = blocks
        self.dtype = dtype

    @torch.no_grad()
    def importance(
        self,
        prompt: Tensor,
        response: Tensor,
        *,
        rows: int,
        tangent_bytes: int,
        prompt_tokens: Tensor | None = None,
        response_tokens: Tensor | None = None,
    ) -> Tensor:
        """I[n, m], float32 or wider; of ``prompt_tokens`` [n] and ``response_tokens`` [m], rising, or of all of both.

        A batch takes at most ``rows`` derivatives times positions, the stored tangents ``tangent_bytes``, and stored
        attention weights as much again; what does not fit costs time and changes no number but in the last digits.
        """
        device = prompt.device
        own = torch.arange(len(prompt), device=device) if prompt_tokens is None else prompt_tokens
        columns = torch.arange(len(response), device=device) if response_tokens is None else response_tokens
        response = response[: int(columns[-1]) + 1]  # nothing later reaches what is asked for
        starts, ends = own.tolist(), (len(prompt) + columns).tolist()
        cut = self.cut(starts, ends, tangent_bytes)
        jet = forward(self.blocks, prompt, response, columns, self.dtype, stored_weight_bytes=tangent_bytes)
        result = jet.probabilities.new_zeros(len(own), len(columns))
        pushed, direct = bisect_left(starts, cut), bisect_left(ends, cut + 1)
        store = [
            self._forward_mode(jet, result, own[first:last], slice(first, last), cut)
            for first, last in self._buckets([cut - start for start in starts[:pushed]], rows)
        ]
        # Reverse buckets mirror forward ones: the last response reaches back over the most positions.
        m = len(columns)
        for first, last in self._buckets([end - cut for end in reversed(ends[direct:])], rows):
            self._reverse_mode(jet, result, store, own[pushed:], m - last, m - first, cut)
        return result.mul_(jet.probabilities)

    def cut(self, starts: Sequence[int], ends: Sequence[int], tangent_bytes: int) -> int:
        """The last cut with the fewest passes over one position whose stored tangents fit ``tangent_bytes``.

        ``starts``: positions of the prompt tokens asked for, ``ends`` those behind the ones that predict the response
        tokens, both rising.
        """
        blocks = self.blocks
        cell = 2 * blocks.n_kv_heads * blocks.d_head * len(blocks.layers) * self.dtype.itemsize
        # The sum is convex in the cut: each step adds the tangents that reach the position and saves the cotangents.
        cut = stored = 0
        while (
            cut < ends[-1]
            and (tangents := bisect_left(starts, cut + 1)) <= len(ends) - bisect_left(ends, cut + 1)
            and (stored := stored + tangents * cell) <= tangent_bytes
        ):
            cut += 1
        return cut

    def _buckets(self, widths: Sequence[int], rows: int) -> list[tuple[int, int]]:
        """Derivatives in batches [first, last); each works on ``widths`` positions, falling."""
        calls = CALLS_COST * len(self.blocks.layers) / self.blocks.parameters_in_blocks
        cost = WEIGHTS_COST + calls * (1 if self.blocks.embedding.device.type == "cpu" else GPU_COST)
        buckets, first = [], 0
        while first < len(widths):
            width, last, wasted = widths[first], first + 1, 0
            while (
                last < len(widths)
                and (last + 1 - first) * width <= rows
                and (wasted := wasted + width - widths[last]) <= cost
            ):
                last += 1
            buckets.append((first, last))
            first = last
        return buckets

    # Linear maps, without their biases

    def _push(self, x: Tensor, projection: Projection) -> Tensor:
        """Tangents [..., in] through a projection."""
        return F.linear(x, projection.weight.to(self.dtype))

    def _push_own(self, x: Tensor, own: tuple[Tensor, Tensor], projection: Projection) -> Tensor:
        """Tangents that are zero but at ``own`` through a projection."""
        y = x.new_zeros(*x.shape[:2], projection.weight.shape[0])
        y[own] = self._push(x[own], projection)
        return y

    def _pull(self, *pairs: tuple[Tensor, Projection]) -> Tensor:
        """Sum of cotangents [..., out] through their projections."""
        (g, projection), *others = pairs
        total = g.reshape(-1, g.shape[-1]) @ projection.weight.to(self.dtype)
        for h, other in others:
            total.addmm_(h.reshape(-1, h.shape[-1]), other.weight.to(self.dtype))
        return total.view(*g.shape[:-1], -1)

    # Forward mode

    def _forward_mode(self, jet: Jet, result: Tensor, rows: Tensor, filled: slice, cut: int) -> Tangents:
        """Tangents of the prompt positions ``rows``, rising, at those from the first of them to the cut; what they
        reach outright is put into the result's rows ``filled``."""
        first, blocks = int(rows[0]), self.blocks
        shape = (2, len(blocks.layers), blocks.n_kv_heads, len(rows), cut - first, blocks.d_head)
        stored = torch.empty(shape, dtype=self.dtype, device=result.device)
        own = rows - first, torch.arange(len(rows), device=result.device)
        x = jet.embeds.new_zeros(cut - first, len(rows), jet.embeds.shape[1])
        x[own] = jet.embeds[rows]
        start = first
        for index, (layer, layer_jet) in enumerate(zip(self.blocks.layers, jet.layers, strict=True)):
            if index + 1 == len(jet.layers):
                start = max(int(jet.at[0]), first)
            y = _pushed(layer_jet.norm, slice(first, cut), x)
            if index == 0:
                q, k, v = (self._push_own(y, own, p) for p in (layer.q, layer.k, layer.v))
                q = q[start - first :]
            else:
                q, k, v = self._push(y[start - first :], layer.q), self._push(y, layer.k), self._push(y, layer.v)
            k = self._push_rotation(k, layer_jet.k_norm, layer_jet.k_rotation, slice(first, cut))
            k = k.squeeze(2).transpose(1, 2).contiguous()  # [k, b, p, h]
            v = v.view(*v.shape[:2], self.blocks.n_kv_heads, -1).permute(2, 0, 1, 3).contiguous()  # [k, p, b, h]
            stored[0, index] = k
            stored[1, index] = v.transpose(1, 2)
            if start >= cut:
                break
            here = slice(start, cut)
            q = self._push_rotation(q, layer_jet.q_norm, layer_jet.q_rotation, here)
            y = self._push(_push_attention(layer_jet, q, k, v, start, first), layer.o)
            x = self._added(x[start - first :], _pushed(layer_jet.out_norm, here, y))
            x = self._added(x, self._push_mlp(layer, layer_jet, x, here))
        else:
            reached = (jet.at >= start) & (jet.at < cut)
            direct = torch.bmm(x[jet.at[reached] - start], jet.cotangents[reached, :, None])
            result[filled, reached] = direct[..., 0].T.to(result.dtype)
        return Tangents(rows=filled, first=first, stored=stored)

    def _push_mlp(self, layer: LlamaLayer, layer_jet: LayerJet, x: Tensor, where: slice) -> Tensor:
        """Tangents x[p, b, d] through a layer's MLP, without the residual."""
        y = _pushed(layer_jet.mlp_norm, where, x)
        gate, up = self._push(y, layer.gate), self._push(y, layer.up)
        y = self._push(gate.mul_(layer_jet.slope[where, None]).addcmul_(up, layer_jet.act[where, None]), layer.down)
        return _pushed(layer_jet.mlp_out_norm, where, y)

    def _added(self, x: Tensor, y: Tensor) -> Tensor:
        """What a block adds to the residual stream, added to it."""
        return torch.add(x, y, alpha=self.blocks.residual_scale)

    def _scaled(self, g: Tensor) -> Tensor:
        """Cotangents of the residual stream at what a block adds to it."""
        return g if self.blocks.residual_scale == 1 else g * self.blocks.residual_scale

    def _push_rotation(self, x: Tensor, norm: NormJet | None, rotation: Rotation, where: slice) -> Tensor:
        """Tangents [p, b, heads h] of queries or keys through their norm and the rotation: [k, p, g, b, h]."""
        x = _pushed(norm, where, x)
        x = x.view(*x.shape[:2], self.blocks.n_kv_heads, -1, self.blocks.d_head).permute(2, 0, 3, 1, 4)
        return rotate(x, rotation.cos[where, None, None], rotation.sin[where, None, None])

    # Reverse mode

    def _reverse_mode(
        self, jet: Jet, result: Tensor, store: Sequence[Tangents], behind: Tensor, first: int, last: int, cut: int
    ) -> None:
        """Cotangents of responses first..last at positions from the cut to their own, into the result's columns:
        through the tangents before the cut, and outright at the prompt positions ``behind`` it, its last rows."""
        n, g = len(jet.embeds), jet.cotangents[first:last]
        own = jet.at[first:last]
        end = int(own[-1]) + 1
        for index in reversed(range(len(jet.layers))):
            layer, layer_jet = self.blocks.layers[index], jet.layers[index]
            if index + 1 == len(jet.layers):
                g, k, v = self._pull_last_layer(layer, layer_jet, g, own, cut)
            else:
                wanted = max(n, cut) if index == 0 else end
                g, k, v = self._pull_layer(layer, layer_jet, g, cut, wanted)
            v = v.contiguous()  # or each batch of tangents would copy it
            for tangents in store:
                result[tangents.rows, first:last] += tangents.contraction(index, k, v).to(result.dtype)
        direct = torch.bmm(g[behind - cut], jet.embeds[behind, :, None])
        result[len(result) - len(behind) :, first:last] = direct[..., 0].to(result.dtype)

    def _pull_layer(
        self, layer: LlamaLayer, layer_jet: LayerJet, g: Tensor, cut: int, wanted: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cotangents g[p, b, d] of a layer's output at cut.. : of its input at cut..wanted, and of keys and values
        [k, b, p, h] before the cut."""
        there = slice(cut, cut + len(g))
        g = self._pull_mlp(layer, layer_jet, g, there)
        out = self._pull((_pulled(layer_jet.out_norm, there, self._scaled(g)), layer.o))
        out = out.view(*g.shape[:2], self.blocks.n_kv_heads, -1, self.blocks.d_head).permute(2, 0, 3, 1, 4)
        q, k, v = _pull_attention(layer_jet, out.contiguous(), cut, wanted)
        here = slice(cut, wanted)
        g = g[: wanted - cut]
        if wanted > cut:
            queries = self._pull_rotation(q, layer_jet.q_norm, layer_jet.q_rotation, here)
            keys = k[:, :, here].transpose(1, 2).unsqueeze(2)
            keys = self._pull_rotation(keys, layer_jet.k_norm, layer_jet.k_rotation, here)
            values = v[:, here].permute(1, 2, 0, 3).flatten(2)
            y = self._pull((queries, layer.q), (keys, layer.k), (values, layer.v))
            g = g + _pulled(layer_jet.norm, here, y)
        return g, k[:, :, :cut], v[:, :cut].transpose(1, 2)

    def _pull_last_layer(
        self, layer: LlamaLayer, layer_jet: LayerJet, g: Tensor, own: Tensor, cut: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As ``_pull_layer`` for cotangents g[b, d] that are zero but at the positions own[b], in rising order."""
        end = int(own[-1]) + 1
        g = self._pull_mlp(layer, layer_jet, g[:, None], own)
        out = self._pull((_pulled(layer_jet.out_norm, own, self._scaled(g)), layer.o))
        out = out.view(len(own), self.blocks.n_kv_heads, -1, self.blocks.d_head).transpose(0, 1)
        weights = layer_jet.weights(own, end)
        scores = torch.bmm(out.flatten(1, 2), layer_jet.v[:, :end].transpose(1, 2)).view(weights.values.shape)
        scores = (scores - (out * layer_jet.out[:, own]).sum(-1, keepdim=True)).mul_(weights.slopes)
        q = torch.bmm(scores.flatten(1, 2), layer_jet.k[:, :end]).view(out.shape)
        k = scores.transpose(2, 3) @ layer_jet.q[:, own]
        v = weights.values.transpose(2, 3) @ out
        here = slice(cut, end)
        keys = k[:, :, here].transpose(1, 2).unsqueeze(2)
        keys = self._pull_rotation(keys, layer_jet.k_norm, layer_jet.k_rotation, here)
        values = v[:, :, here].permute(2, 1, 0, 3).flatten(2)
        y = self._pull((keys, layer.k), (values, layer.v))
        at = own - cut, torch.arange(len(own), device=own.device)
        queries = self._pull_rotation(q.unsqueeze(3), layer_jet.q_norm, layer_jet.q_rotation, own)
        y[at] += self._pull((queries, layer.q))[:, 0]
        y = _pulled(layer_jet.norm, here, y)
        y[at] += g[:, 0]
        return y, k[:, :, :cut], v[:, :, :cut]

    def _pull_mlp(self, layer: LlamaLayer, layer_jet: LayerJet, g: Tensor, where: slice | Tensor) -> Tensor:
        """Cotangents g[p, b, d] of a layer's output at the residual sum before its MLP."""
        y = self._pull((_pulled(layer_jet.mlp_out_norm, where, self._scaled(g)), layer.down))
        gate = y * layer_jet.slope[where, None]
        y = self._pull((gate, layer.gate), (y.mul_(layer_jet.act[where, None]), layer.up))
        return _pulled(layer_jet.mlp_norm, where, y).add_(g)

    def _pull_rotation(self, g: Tensor, norm: NormJet | None, rotation: Rotation, where: slice | Tensor) -> Tensor:
        """Cotangents [k, p, g, b, h] of rotated queries or keys before rotation and norm: [p, b, heads h]."""
        cos, sin = rotation.cos[where, None, None, None], rotation.sin[where, None, None, None]
        return _pulled(norm, where, rotate(g.permute(1, 3, 0, 2, 4), cos, -sin).flatten(2))


def _pushed(norm: NormJet | None, where: slice | Tensor, x: Tensor) -> Tensor:
    return x if norm is None else norm[where].push(x)


def _pulled(norm: NormJet | None, where: slice | Tensor, g: Tensor) -> Tensor:
    return g if norm is None else norm[where].pull(g)


def _push_attention(jet: LayerJet, q: Tensor, k: Tensor, v: Tensor, start: int, first: int) -> Tensor:
    """Tangents of the attention output [p, b, heads h] at positions start.. .

    From tangents of queries q[k, p, g, b, h] at start.., of keys k[k, b, p, h] and values v[k, p, b, h] at first.. .
    """
    n_kv, length, groups, size, d_head = q.shape
    out = torch.empty(length, size, n_kv, groups, d_head, dtype=q.dtype, device=q.device)
    for low, high in _query_blocks(length):
        here, end = slice(start + low, start + high), start + high
        weights, slopes = jet.weights(here, end).flat()
        shape = (n_kv, weights.shape[1], size)
        scores = torch.bmm(q[:, low:high].reshape(n_kv, -1, d_head), jet.k[:, :end].transpose(1, 2)).view(*shape, end)
        keys = k[:, :, : end - first].reshape(n_kv, -1, d_head)
        by_keys = torch.bmm(jet.q[:, here].reshape(n_kv, -1, d_head), keys.transpose(1, 2))
        scores[..., first:] += by_keys.view(*shape, -1)
        scores *= slopes[:, :, None]
        block = torch.bmm(scores.view(n_kv, -1, end), jet.v[:, :end]).view(*shape, d_head)
        fixed = jet.out[:, here].reshape(n_kv, -1, 1, d_head)
        block.addcmul_(scores.sum(-1, keepdim=True), fixed, value=-1)
        values = v[:, : end - first].reshape(n_kv, end - first, -1)
        block.view(*shape[:2], -1).baddbmm_(weights[..., first:], values)
        out[low:high] = block.view(n_kv, high - low, groups, size, d_head).permute(1, 3, 0, 2, 4)
    return out.flatten(2)


def _pull_attention(jet: LayerJet, g: Tensor, start: int, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cotangents of queries [k, p, g, b, h] at start..wanted, of keys [k, b, p, h] and of values [k, p, b, h] at 0.. .

    From the attention output's cotangents g[k, p, g, b, h] at positions start.. .
    """
    n_kv, length, groups, size, d_head = g.shape
    q = g.new_empty(n_kv, wanted - start, groups, size, d_head)
    k = g.new_zeros(n_kv, size, start + length, d_head)
    v = g.new_zeros(n_kv, start + length, size, d_head)
    for low, high in _query_blocks(length):
        here, end = slice(start + low, start + high), start + high
        weights, slopes = jet.weights(here, end).flat()
        block = g[:, low:high].reshape(n_kv, -1, size, d_head)
        scores = torch.bmm(block.flatten(1, 2), jet.v[:, :end].transpose(1, 2)).view(n_kv, -1, size, end)
        scores -= (block * jet.out[:, here].reshape(n_kv, -1, 1, d_head)).sum(-1, keepdim=True)
        scores *= slopes[:, :, None]
        if start + low < wanted:
            rows = torch.bmm(scores.flatten(1, 2), jet.k[:, :end]).view(n_kv, high - low, groups, size, d_head)
            q[:, low:high] = rows[:, : wanted - start - low]
        queries = jet.q[:, here].reshape(n_kv, -1, d_head)
        k[:, :, :end] += torch.bmm(scores.flatten(2).transpose(1, 2), queries).view(n_kv, size, end, d_head)
        v[:, :end].flatten(2).baddbmm_(weights.transpose(1, 2), block.flatten(2))
    return q, k, v


def _query_blocks(length: int) -> Sequence[tuple[int, int]]:
    return [(low, min(low + QUERY_BLOCK, length)) for low in range(0, length, QUERY_BLOCK)]
