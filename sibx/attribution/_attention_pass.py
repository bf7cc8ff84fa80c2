"""One forward and one backward pass of a transformer, and what they say of its attention."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sibx._captum import run_forward
from sibx._checks import require
from sibx.attribution._attention_places import Placed
from sibx.attribution.attention import Attention, last_stage, record_attention
from sibx.attribution.cotangents import differentiate
from sibx.attribution.safe import check_outputs, pick_rows, select_scores
from sibx.models.known import Known
from sibx.models.layers import eval_mode
from sibx.models.layout import TokenGrid, token_grid
from sibx.models.scored import unwrap


class Layer(NamedTuple):
    """An attention layer: its matrix A and the gradient dz_t / dA of the target's score, (B, heads, queries, keys)."""

    weights: Tensor
    gradients: Tensor


class AttentionPass(NamedTuple):
    """What the passes say of the attention of the last blocks, those that make tokens of one shape.

    Attributes:
        layers: the layers in order; of a plain transformer all of them.
        read: how much the head reads for the target of every token behind them, (B, 1, N), which sum to 1.
        read_by_any: the same for any score, whatever the target.
        pool: the layer with which the head pools these tokens, (B, heads, queries, N); None = it does not.
        by_layer: for every layer the gradient of the score that the head gives to that layer's tokens, for the layer's
            matrix or that of the pool, (B, heads, queries, N); empty unless asked for.
        grid: where the tokens lie.
    """

    layers: tuple[Layer, ...]
    read: Tensor
    read_by_any: Tensor
    pool: Layer | None
    by_layer: tuple[Tensor, ...]
    grid: TokenGrid

    @property
    def of_any_score(self) -> "AttentionPass":
        """The same for methods that ignore the target."""
        return self._replace(read=self.read_by_any)

    @property
    def last(self) -> tuple[Layer, Tensor]:
        """The last layer, and how much is read of its queries, (B, 1, queries)."""
        if self.pool is None:
            return self.layers[-1], self.read
        count = self.pool.weights.shape[2]
        return self.pool, self.read.new_full((len(self.read), 1, count), 1 / count)


def read_attention(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    target: tuple[Any] | None,
    extra: tuple[Any, ...],
    *,
    by_layer: bool,
    create_graph: bool,
) -> AttentionPass:
    """Run a model forward and backward once, and return what that says of its attention.

    Args:
        model: the model.
        inputs: its inputs, images (B, C, H, W) first, which require grad.
        target: the target in a tuple; None = any score.
        extra: further arguments of the model.
        by_layer: whether the head scores every layer's tokens, too: it then gets them all in the same pass, and every
            block goes backward on its own, up to its attention.
        create_graph: whether what is returned stays differentiable.
    """
    batch, name = len(inputs[0]), type(unwrap(model)).__name__
    stack_at = _last_block(model, inputs, extra) if by_layer else None
    with record_attention(model, stack_at) as found, _of_all_layers(name, stack_at):
        outputs = check_outputs(run_forward(model, inputs, None, extra or None))
    stage, pool = _split(_used(found, outputs), name)
    rule = "attend in blocks that are modules, the same for all images, so that its head can be given their tokens"
    require(not by_layer or len(stage) == 1 or stage[-1].stacked is not None, "model", rule, name)
    places = [Placed(attention, batch, name) for attention in stage]
    count = 1 if stack_at is None else len(stage)  # of layers whose tokens the head got
    parts = _parts(outputs, count, batch, name)
    scores = [_any_score(p) if target is None else select_scores(p, target[0], batch).sum() for p in parts]
    matrices = [a.weights for a in (stage if pool is None else [*stage, pool])]
    (for_any,) = differentiate(_any_score(parts[-1]), [stage[-1].weights], retain_graph=True)
    gradients = differentiate(scores[-1], matrices, create_graph=create_graph, retain_graph=by_layer)
    layers = tuple(
        Layer(place.dense(weights), place.dense(gradient))
        for place, weights, gradient in zip(places, matrices, gradients, strict=False)  # without the pool's
    )
    pooling, total = None, torch.stack(scores).sum()
    own: tuple[Tensor, ...] = (layers[-1].gradients,) if by_layer else ()
    if pool is not None:
        pooling = Layer(*(_by_layer(tensor, count, batch)[-1] for tensor in (pool.weights, gradients[-1])))
    if by_layer and pool is not None:
        (gradient,) = differentiate(total, [pool.weights], create_graph=create_graph)
        own = tuple(_by_layer(gradient, count, batch))
    elif stack_at is not None:
        own = _back_to_attention(total, stage, places, create_graph)
    grid = _grid(layers[-1].weights, inputs[0])
    read, by_any = (_read_tokens(gradient, grid) for gradient in (layers[-1].gradients, places[-1].dense(for_any)))
    return AttentionPass(layers=layers, read=read, read_by_any=by_any, pool=pooling, by_layer=own, grid=grid)


@contextmanager
def _of_all_layers(name: str, stack_at: nn.Module | None) -> Iterator[None]:
    """Run the block; where a model that takes the images fails on the tokens of all layers at once, say so."""
    try:
        yield
    except RuntimeError as error:
        if stack_at is None or isinstance(error, torch.OutOfMemoryError):
            raise
        rule = "have a head that takes the tokens of all layers at once, as further rows"
        raise ValueError(f"`model` must {rule}, but got {name}: {error}") from error


def _split(found: list[Attention], name: str) -> tuple[list[Attention], Attention | None]:
    """Return the attention of the last blocks, and that of a head that pools their tokens."""
    kinds = "scaled_dot_product_attention, a softmax over keys, torch.nn.MultiheadAttention"
    require(bool(found), "model", f"have attention that torch's functions compute ({kinds})", name)
    *before, last = found
    queries, keys = last.weights.shape[-2:]
    if before and queries == 1 and keys == before[-1].weights.shape[-1]:
        return last_stage(before), last
    return last_stage(found), None


def _used(found: list[Attention], outputs: Tensor) -> list[Attention]:
    """Return the matrices without those at the end that no score depends on, as of a pool that is not asked."""
    total, used = outputs.sum(), list(found)
    while len(used) > 1 and total.requires_grad and used[-1].weights.requires_grad:
        (gradient,) = torch.autograd.grad(total, [used[-1].weights], retain_graph=True, allow_unused=True)
        if gradient is not None:
            return used
        used.pop()
    return found


def _parts(outputs: Tensor, count: int, batch: int, name: str) -> tuple[Tensor, ...]:
    """Return the scores that the head gave to the tokens of every layer, (B, K) each."""
    rule = f"have a head that takes the tokens of {count} layers at once, {count} x {batch} rows"
    require(count == 1 or outputs.shape[:1] == (count * batch,), "model", rule, f"{tuple(outputs.shape)} of {name}")
    return outputs.split(batch) if count > 1 else (outputs,)


def _any_score(outputs: Tensor) -> Tensor:
    """Return a sum of all scores that depends on them even where they sum to a constant: a softmax, (-z, z)."""
    scores = outputs.flatten(1) if outputs.ndim > 1 else outputs.unsqueeze(-1)
    uneven = 2 + torch.arange(scores.shape[-1], device=scores.device).sin()  # no whole multiples cancel
    return (scores * uneven).sum()


def _by_layer(tensor: Tensor, count: int, batch: int) -> Tensor:
    """Return a matrix of the head's pool as (layers, B, heads, queries, keys)."""
    return tensor.reshape(count, batch, -1, *tensor.shape[-2:])


def _back_to_attention(
    total: Tensor, stage: list[Attention], places: list[Placed], create_graph: bool
) -> tuple[Tensor, ...]:
    """Go back from the scores of all layers' tokens to the tokens, and in every block on its own to its attention."""
    stacked = stage[-1].stacked
    assert stacked is not None  # the block ran: scores came out of it
    (cotangents,) = differentiate(total, [stacked], create_graph=create_graph, retain_graph=True)
    own = []
    for attention, place, cotangent in zip(stage, places, cotangents.chunk(len(stage)), strict=True):
        assert attention.tokens is not None
        (gradient,) = torch.autograd.grad(
            attention.tokens, attention.weights, cotangent, retain_graph=True, create_graph=create_graph
        )
        own.append(place.dense(gradient))
    return tuple(own)


def _grid(weights: Tensor, images: Tensor) -> TokenGrid:
    size = (images.shape[2], images.shape[3])
    grid = token_grid(weights[:, 0], size)  # of its keys
    if grid is None or grid.height * grid.width == 1:
        rule = f"attend between tokens that fill a grid of several cells in the image's proportions {size}"
        raise ValueError(f"`model` must {rule}, but got {weights.shape[-1]} tokens.")
    return grid


@torch.no_grad()
def _read_tokens(gradients: Tensor, grid: TokenGrid) -> Tensor:
    """Return how much is read of every token, (B, 1, N): equally much of those whose attention matters for the score.

    Where no attention matters (a head of zeros, a saturated score) it is the class token, without one all tokens.
    """
    matters = (gradients != 0).any(3).any(1)  # (B, N)
    usual = torch.ones_like(matters)
    usual[:, 1:] = grid.extra == 0
    read = torch.where(matters.any(1, keepdim=True), matters, usual).to(gradients.dtype)
    return (read / read.sum(1, keepdim=True)).unsqueeze(1)


_KNOWN: Known[nn.Module | None] = Known()


def _last_block(model: nn.Module, inputs: tuple[Tensor, ...], extra: tuple[Any, ...]) -> nn.Module | None:
    """Return the last block that attends, None if no other makes tokens of its shape; looked up once for every shape.

    The model runs on one row for it.
    """
    known, shape = _KNOWN.of(unwrap(model)), tuple(inputs[0].shape[1:])
    if shape not in known or known[shape] not in {None, *model.modules()}:
        row = pick_rows((*inputs, *extra), torch.tensor([0]), len(inputs[0]))
        with eval_mode(model), record_attention(model) as found:
            outputs = check_outputs(model(*row))
        stage, _ = _split(_used(found, outputs), type(unwrap(model)).__name__)
        known[shape] = stage[-1].block if len(stage) > 1 else None
    return known[shape]
