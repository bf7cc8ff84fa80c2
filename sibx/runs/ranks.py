"""Statistics of the global batch when several processes train together.

Why the gradients come out right. Every rank gathers the rows of all N ranks and computes the SAME loss L on them. The
backward pass of ``gather_rows`` sums the gradients of all ranks, so rank r's rows get ``N dL/drows_r``, and rank r's
parameters ``N dL/drows_r drows_r/dtheta``. DistributedDataParallel averages that over ranks:
``1/N sum_r N dL/drows_r drows_r/dtheta = dL/dtheta``, the gradient of one process with the global batch, without any
further factor.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sibx._checks import require

T = TypeVar("T")


def world_size() -> int:
    """Return the number of ranks of the default process group; 1 if there is no group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's rank in the default process group; 0 if there is no group."""
    return dist.get_rank() if world_size() > 1 else 0


def gather_objects(value: T) -> list[T]:
    """Return the values of all ranks, in rank order; values are pickled, and every rank has to call this."""
    values: list[Any] = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def on_first_rank(function: Callable[[], T]) -> T:
    """Call a function on the first rank only; every rank has to call this, and gets the result or the exception."""
    outcome: tuple[Any, Exception | None] = None, None
    if rank() == 0:
        try:
            outcome = function(), None
        except Exception as error:
            outcome = None, error
    result, failure = gather_objects(outcome)[0]
    if failure is not None:
        raise failure
    value: T = result
    return value


def mean_over_ranks(values: dict[str, float]) -> dict[str, float]:
    """Return the mean over ranks of every value; every rank has to call this, with the same names."""
    gathered = gather_objects(values)
    return {k: sum(of_rank[k] for of_rank in gathered) / len(gathered) for k in values}


def share_buffers(model: nn.Module) -> None:
    """Copy the first rank's buffers (BatchNorm's statistics) to all ranks; every rank has to call this."""
    for buffer in model.buffers() if world_size() > 1 else ():
        dist.broadcast(buffer, 0)


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows of all ranks in rank order, differentiably.

    Every rank of the default process group has to call it; if one rank runs the backward pass, all ranks have to. The
    gradient of a rank's rows is the sum over the losses of all ranks; the module's docstring says why a gradient that
    DistributedDataParallel averages is then right.

    Args:
        rows: rows (B, ...), of the same shape on every rank, in a dtype that the group's backend exchanges.

    Returns:
        Rows (N B, ...) of all N ranks; ``rows`` itself if there is one rank or no process group.

    Raises:
        ValueError: shapes that differ between ranks; raised on every rank.
    """
    if world_size() == 1:
        return rows
    _check_same_shape(rows)
    gathered: Tensor = _GatherRows.apply(rows)
    return gathered


def previous_rows(rows: Tensor, among: Tensor | None = None) -> Tensor:
    """Return, for each of this rank's rows, the row before it in the global batch (before the first: the last).

    Args:
        rows: rows (B, ...) of this rank.
        among: which rows may be returned, (B,) bool: the nearest such row before is taken. None = all rows, also if no
            row of any rank is marked.
    """
    everyone = gather_rows(rows)
    own = torch.arange(len(rows), device=rows.device) + rank() * len(rows)
    if among is None:
        return everyone[own - 1]
    marked = gather_rows(among.long()) > 0
    marked = marked | ~marked.any()
    nearest = torch.arange(len(marked), device=rows.device).where(marked, -1).cummax(0).values  # up to every row
    before = nearest[own - 1]
    return everyone[before.where(before >= 0, nearest[-1])]


def _check_same_shape(rows: Tensor) -> None:
    sizes = [torch.empty(2, dtype=torch.long, device=rows.device) for _ in range(world_size())]
    dist.all_gather(sizes, sizes[0].new_tensor([len(rows), rows[:1].numel()]))
    got = [(int(count), int(width)) for count, width in sizes]
    require(len(set(got)) == 1, "rows", "have one count and one width on all ranks (an equal batch size)", got)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed: Tensor = _SumOwnRows.apply(gradient)
        return summed


class _SumOwnRows(torch.autograd.Function):
    """The transpose of ``_GatherRows``; each is the other's derivative, so that VJPs can be differentiated."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        total = rows.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(world_size())[dist.get_rank()].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gathered: Tensor = _GatherRows.apply(gradient)
        return gathered
