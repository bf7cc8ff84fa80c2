"""Attention matrices of any PyTorch transformer, recorded while it runs, with gradients; outputs stay what they are."""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sibx._checks import require
from sibx.models.differentiable import uncompiled
from sibx.models.layers import main_part
from sibx.models.plain import all_kept


@dataclass(slots=True, eq=False)
class Attention:
    """One attention matrix as the model computed it.

    Attributes:
        weights: the matrix, in the graph: its last two axes are queries and keys, whose weights sum to 1 for a query;
            before them images, heads and windows, however the model arranges them.
        block: the outermost module in which this attention ran and no other; None = there is none.
        tokens: what the block made, (B, N, D), (B, h, w, D) or (B, D, h, w); None = no tokens.
        stacked: what the rest of the model got instead, see ``stack_at``; None = the tokens.
    """

    weights: Tensor
    block: nn.Module | None = None
    tokens: Tensor | None = None
    stacked: Tensor | None = None

    @property
    def is_square(self) -> bool:
        """Whether there are as many queries as keys."""
        return self.weights.shape[-2] == self.weights.shape[-1]


@contextmanager
def record_attention(model: nn.Module, stack_at: nn.Module | None = None) -> Iterator[list[Attention]]:
    """Within the block, every forward pass of the model puts its attention matrices into the yielded list, in order.

    Seen are ``scaled_dot_product_attention``, softmaxes over the keys, and ``torch.nn.MultiheadAttention``, which is
    what torchvision, timm, transformers and open_clip call. The model computes what it computes without it, up to
    rounding, and the matrices are a part of that: gradients of the scores for them exist, and gradients of those.

    Args:
        model: the model, a module.
        stack_at: a block of an earlier pass: the rest of the model then gets the tokens of the last L blocks up to
            this one that have the shape of its own, one below the other, (L B, N, D).

    Raises:
        ValueError: a model that is no module.

    Example:
        >>> model = build_model("tiny_vit", num_classes=5)
        >>> with record_attention(model) as found:
        ...     score = model(torch.rand(2, 3, 32, 32))[:, 3].sum()
        >>> [tuple(a.weights.shape) for a in found][:2]
        [(2, 4, 17, 17), (2, 4, 17, 17)]
        >>> torch.autograd.grad(score, found[0].weights)[0].shape
        torch.Size([2, 4, 17, 17])
    """
    require(isinstance(model, nn.Module), "model", "be a torch.nn.Module", model)
    recorder = _Recorder(model, stack_at)
    handles = [model.register_forward_pre_hook(recorder.restart)]
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(recorder.start))
        handles.append(module.register_forward_hook(recorder.end))
    try:
        with uncompiled(), _Watch(recorder.found):
            yield recorder.found
    finally:
        for handle in handles:
            handle.remove()


def last_stage(found: list[Attention]) -> list[Attention]:
    """Return the attention matrices of the last blocks that make tokens of one shape, in order.

    Where queries are fewer than keys, attention itself merges tokens, and the stage begins behind it.

    Args:
        found: matrices of one pass, the last of which is one of these.
    """
    kinds = [(a.weights.shape if a.tokens is None else a.tokens.shape, a.is_square) for a in found]
    others = [i for i, kind in enumerate(kinds) if kind != kinds[-1]]
    return found[others[-1] + 1 if others else 0 :]


class _Recorder:
    """What was recorded of the last forward pass, and the hooks that say which module it belongs to."""

    def __init__(self, model: nn.Module, stack_at: nn.Module | None):
        self.model, self.stack_at = model, stack_at
        self.found: list[Attention] = []
        self.starts: list[int] = []  # for every module that runs: how many matrices there were when it started

    def restart(self, *_: object) -> None:
        self.found.clear()
        self.starts.clear()

    def start(self, *_: object) -> None:
        self.starts.append(len(self.found))

    def end(self, module: nn.Module, _: object, output: Any) -> Any:
        is_block = len(self.found) - self.starts.pop() == 1
        tokens = main_part(output)
        if not is_block or not isinstance(tokens, Tensor) or tokens.ndim not in (3, 4):
            return output
        self.found[-1].block, self.found[-1].tokens = module, tokens
        if module is not self.stack_at:
            return output
        self.found[-1].stacked = stacked = torch.cat([a.tokens for a in last_stage(self.found) if a.tokens is not None])
        return stacked if tokens is output else (stacked, *output[1:])


class _Watch(TorchFunctionMode):
    """Notes the attention matrices of the functions that run within the block."""

    def __init__(self, found: list[Attention]):
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, or its explicit version, which notes the matrix."""
        explicit = EXPLICIT.get(getattr(func, "__name__", ""))
        with all_kept():  # where activations are checkpointed: nothing is computed again, without being watched
            if explicit is None:
                return func(*args, **kwargs or {})
            result, weights = explicit(func, *args, **kwargs or {})
        if weights is not None:
            self.found.append(Attention(weights))
        return result


def _attend(
    _: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return what ``scaled_dot_product_attention`` returns, and its matrix (..., queries, keys)."""
    if enable_gqa:  # several heads of queries share a head of keys and values
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = query * scale @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if attn_mask is None:
        weights = logits.softmax(-1)
    else:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=logits.dtype).masked_fill(~attn_mask, -torch.inf)
        blind = (attn_mask == -torch.inf).all(-1, keepdim=True)  # queries that see no key get zeros
        weights = (logits + attn_mask.masked_fill(blind, 0)).softmax(-1).masked_fill(blind, 0)
    return F.dropout(weights, dropout_p) @ value, weights


def _softmax(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    """Return a softmax, and again if it is over keys: the last of four axes or more, or as many as the queries."""
    weights: Tensor = func(x, *args, **kwargs)
    dim = kwargs.get("dim", args[0] if args else None)
    is_last = weights.ndim >= 3 and isinstance(dim, int) and dim % weights.ndim == weights.ndim - 1
    if not is_last or weights.shape[-1] == 1:
        return weights, None
    return weights, weights if weights.ndim > 3 or weights.shape[-2] == weights.shape[-1] else None


def _multi_head(func: Any, *args: Any, **kwargs: Any) -> tuple[Any, Tensor]:
    """Return what ``multi_head_attention_forward`` returns, and its matrix (B, heads, queries, keys)."""
    bound = inspect.signature(func).bind(*args, **kwargs)
    bound.apply_defaults()
    asked, averaged = bound.arguments["need_weights"], bound.arguments["average_attn_weights"]
    bound.arguments |= {"need_weights": True, "average_attn_weights": False}
    output, view = func(*bound.args, **bound.kwargs)
    # The view is made for the caller; the output is computed from its base (B heads, queries, keys).
    weights = view if view._base is None else view._base
    shown = (view.mean(-3) if averaged else view) if asked else None
    return (output, shown), weights


EXPLICIT: dict[str, Callable[..., tuple[Any, Tensor | None]]] = {
    "scaled_dot_product_attention": _attend,
    "softmax": _softmax,
    "multi_head_attention_forward": _multi_head,
}
