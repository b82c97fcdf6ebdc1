"""Attention in the operators that every device knows: products, a sum and a softmax, without fused kernels."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as
from surgery.observing.shapes import example
from surgery.patterns.pattern import CallPattern, Match
from surgery.record import Edit, Refusal
from surgery.rule import Decline, Example, Promise, Rule, submodule
from surgery.rule_parts.example_call import ExampleCall
from surgery.rule_parts.operator_names import ATTENTION

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    allowed: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    dropout_p: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """softmax(q k^T * scale + bias) v and its weights (Vaswani et al. 2017, equation 1).

    Shapes: ``q`` (..., L, E), ``k`` (..., S, E), ``v`` (..., S, V); ``bias`` and ``allowed`` (boolean, true where a
    query may look) broadcast to (..., L, S). A query that may look nowhere gets zeros and finite gradients. Works on
    fx proxies as on tensors.
    """
    scores = (q * scale) @ k.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
    if allowed is None:
        weights = F.softmax(scores, dim=-1)
    else:
        nowhere = allowed.any(-1, keepdim=True).logical_not()
        weights = F.softmax(scores.masked_fill((allowed | nowhere).logical_not(), float("-inf")), dim=-1)
        weights = weights.masked_fill(nowhere, 0.0)
    if dropout_p > 0:
        weights = F.dropout(weights, dropout_p)
    return weights @ v, weights


class PlainAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention`` with the same parameters and call, never fused."""

    def forward(  # the base class says what it takes and returns
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal only says of what kind attn_mask is: give the mask too")
        swapped = not self.batch_first and query.dim() == 3
        q, k, v = self._projected(query, key, value, swapped)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k[0].expand_as(k[..., :1, :])], -2)
            v = torch.cat([v, self.bias_v[0].expand_as(v[..., :1, :])], -2)
        heads = (self.num_heads, self.head_dim)
        q, k, v = (torch.unflatten(x, -1, heads).transpose(-3, -2) for x in (q, k, v))
        if self.add_zero_attn:
            k, v = (torch.cat([x, torch.zeros_like(x[..., :1, :])], -2) for x in (k, v))
        allowed, bias = self._masks(attn_mask, key_padding_mask, q)
        dropout_p = self.dropout if self.training else 0.0
        out, weights = attend(q, k, v, self.head_dim**-0.5, allowed, bias, dropout_p=dropout_p)
        out = self.out_proj(out.transpose(-3, -2).flatten(-2))
        if swapped:
            out = out.transpose(0, 1)
        if not need_weights:
            return out, None
        return out, weights.mean(-3) if average_attn_weights else weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor, swapped: bool) -> Sequence[Tensor]:
        """Queries, keys and values (..., L, embed_dim), the batch first."""
        if query is key and key is value and self._qkv_same_embed_dim:  # one product instead of three
            x = query.transpose(0, 1) if swapped else query
            return F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        if self._qkv_same_embed_dim:
            matrices: Sequence[Tensor] = self.in_proj_weight.chunk(3)
        else:
            matrices = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        inputs = [x.transpose(0, 1) if swapped else x for x in (query, key, value)]
        return [F.linear(x, w, b) for x, w, b in zip(inputs, matrices, biases, strict=True)]

    def _masks(
        self, attention: Tensor | None, padding: Tensor | None, q: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Where a query may look, and what is added to the scores, from masks that are true where it may not."""
        masks = []
        if attention is not None:
            per_head = attention.dim() == 3 and q.dim() == 4  # (N * heads, L, S)
            masks.append(torch.unflatten(attention, 0, (-1, self.num_heads)) if per_head else attention)
        if padding is not None:
            masks.append(padding[..., None, None, :])  # (N, 1, 1, S), or (1, 1, S) without a batch
        extra = (self.bias_k is not None) + self.add_zero_attn
        masks = [F.pad(mask, (0, extra)) if extra else mask for mask in masks]  # what was added is never masked
        blocked = [mask for mask in masks if mask.dtype == torch.bool]
        added = [mask.to(q.dtype) for mask in masks if mask.dtype != torch.bool]
        allowed = (blocked[0] if len(blocked) == 1 else blocked[0] | blocked[1]).logical_not() if blocked else None
        bias = (added[0] if len(added) == 1 else added[0] + added[1]) if added else None
        return allowed, bias


class SpellOutAttention(Rule):
    """Fused attention is one operator that small devices lack; matmul, softmax, matmul is the same computation.

    A query that may look nowhere gets zeros, as in the fused call, where the mask is boolean; a float mask of nothing
    but -inf in a row gives NaN here.
    """

    name = "spell_out_attention"
    promise = Promise.SAME_OUTPUT
    removes = ATTENTION
    emits = frozenset({"bmm", "mm", "addmm", "_softmax", "mul", "add", "transpose", "split", "masked_fill"})
    types = (nn.MultiheadAttention,)
    patterns = (CallPattern("scaled_dot_product_attention"),)

    def examples(self) -> Sequence[Example]:
        """The layer, the encoder that bypasses it, the function with and without masks; a Linear stays."""
        shape = (2, 8, 5, 4)
        plain = lambda x: F.scaled_dot_product_attention(x, x, x)  # noqa: E731
        causal = lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3)  # noqa: E731
        masked = lambda x: F.scaled_dot_product_attention(x, x, x, x @ x.mT > 9)  # noqa: E731  # rows of nothing too
        biased = lambda x: F.scaled_dot_product_attention(x, x, x, x[:1] @ x[:1].mT)  # noqa: E731
        attention = partial(nn.MultiheadAttention, 8, 2, batch_first=True)
        layer = partial(nn.TransformerEncoderLayer, 8, 2, 8, 0.0, batch_first=True)
        return [
            Example(lambda: _OnTokens(attention()), shape, 1),
            Example(lambda: _OnTokens(layer()), shape, 2),
            Example(lambda: _OnTokens(nn.TransformerEncoder(layer(), 2)), shape, 5),
            *(Example(ExampleCall.of(f), shape, 1) for f in (plain, causal, masked, biased)),
            Example(lambda: _OnTokens(nn.Linear(8, 8)), shape, 0),
        ]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Layers and calls, and layers that run a fused operator instead of their children."""
        for name, module in evidence.modules():
            if _shortcut(module) is not None:
                params = {"rewrites": {"train": 0, "eval": 1}, "shortcut": _shortcut(module)}
                yield self.edit(name, f"{type(module).__name__} always runs its own layers", params)
        yield from super().propose(model, evidence)

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Raises LookupError where the site is not what the edit says."""
        if "shortcut" not in edit.params:
            super().apply(model, edit, evidence)
            return
        module = submodule(model, edit.site)
        if _shortcut(module) != edit.params["shortcut"]:
            raise LookupError(f"{edit.site} has no {edit.params['shortcut']} to turn off")
        setattr(module, edit.params["shortcut"], False)

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """The same layer with the same parameters, never fused."""
        new = copy(module)
        for held in ("_parameters", "_buffers", "_modules"):
            new.__dict__[held] = dict(getattr(module, held))
        new.__class__ = PlainAttention
        return new

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node | Decline:
        """The calls of ``attend``."""
        given: dict[str, Any] = dict(zip(_ARGUMENTS, match.root.args, strict=False)) | match.root.kwargs
        settings = [given.get(name) for name in ("dropout_p", "is_causal", "enable_gqa")]
        if any(isinstance(setting, fx.Node) for setting in settings):
            return Decline("dropout_p, is_causal and enable_gqa are not known before it runs")
        q, k, mask = given["query"], given["key"], given.get("attn_mask")
        if mask is not None and example(mask) is None:
            return Decline("without example inputs it is not known whether attn_mask is boolean")
        dropout_p, causal, grouped = settings
        with graph.inserting_before(match.root):
            queries: Any = fx.Proxy(q)
            keys: Any = fx.Proxy(k)
            values: Any = fx.Proxy(given["value"])
            if grouped:
                times = queries.size(-3) // keys.size(-3)
                keys, values = keys.repeat_interleave(times, -3), values.repeat_interleave(times, -3)
            scale = given.get("scale")
            scale = queries.size(-1) ** -0.5 if scale is None else _proxy(scale)
            out, _ = attend(
                *(queries, keys, values, scale),
                **_mask_arguments(mask, q),
                causal=bool(causal),
                dropout_p=dropout_p or 0.0,
            )
        return out.node  # type: ignore[attr-defined, no-any-return]


def _shortcut(module: nn.Module) -> str | None:
    """The attribute that lets a layer run a fused operator instead of its children, where it is on."""
    if behaves_as(module, nn.TransformerEncoderLayer):
        return "activation_relu_or_gelu" if module.activation_relu_or_gelu else None
    if behaves_as(module, nn.TransformerEncoder):
        return "use_nested_tensor" if module.use_nested_tensor else None
    return None


def _proxy(value: Any) -> Any:
    return fx.Proxy(value) if isinstance(value, fx.Node) else value


def _mask_arguments(mask: fx.Node | None, q: fx.Node) -> dict[str, Any]:
    if mask is None:
        return {}
    boolean = example(mask).dtype == torch.bool
    checked: Any = mask_of_kind(fx.Proxy(mask), boolean)
    if boolean:
        return {"allowed": checked}
    queries = example(q)
    differs = queries is not None and queries.dtype != example(mask).dtype
    return {"bias": checked.to(queries.dtype) if differs else checked}


def mask_of_kind(mask: Any, boolean: bool) -> Any:
    """Part of a rewritten forward, the mask as it is: whether it blocks or is added was decided by the example's.

    Raises ValueError where a mask is of the other kind.
    """
    if isinstance(mask, fx.Proxy):
        return mask.tracer.create_proxy("call_function", mask_of_kind, (mask, boolean), {})
    if (mask.dtype == torch.bool) is not boolean:
        wanted = "boolean" if boolean else "a float mask"
        raise ValueError(
            f"this attention was rewritten for an attn_mask that is {wanted}, as the example's, and got one of "
            f"{mask.dtype}; run surgery with an example of this kind"
        )
    return mask


class _OnTokens(nn.Module):
    """A layer over the pixels of an image as tokens (N, L, C), for this file's examples."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        if isinstance(self.layer, nn.MultiheadAttention):
            x, _ = self.layer(x, x, x, need_weights=False)
            return x
        return self.layer(x)  # type: ignore[no-any-return]
