"""What ``scaling.py`` measures and extrapolates: the collective operations of a training step."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

PARTS = {
    "gathers": "gathers of S-IB, forward and backward",
    "gradients": "DDP's all-reduce of the gradients",
    "buffers": "DDP's broadcast of the buffers",
}
# operation -> passes between N processes, and the share of its bytes that each pass carries
PASSES: dict[str, Callable[[int], tuple[float, float]]] = {
    "all_gather": lambda n: (n - 1, 1 / n),
    "all_reduce": lambda n: (2 * (n - 1), 1 / n),
    "broadcast": lambda n: (math.log2(n), 1),
}


@dataclass(frozen=True)
class Link:
    """Seconds that an empty pass takes, and bytes per second."""

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Exchange:
    """One collective operation of a step.

    Attributes:
        part: key of PARTS.
        operation: key of PASSES.
        size: bytes that every process holds afterwards.
    """

    part: str
    operation: str
    size: int

    def run(self) -> None:
        """Exchange that many zeros."""
        data = torch.zeros(self.size // 4)
        if self.operation == "all_gather":
            parts = list(data.chunk(dist.get_world_size()))
            dist.all_gather(parts, torch.zeros_like(parts[0]))
        elif self.operation == "all_reduce":
            dist.all_reduce(data)
        else:
            dist.broadcast(data, 0)

    def seconds(self, processes: int, links: Mapping[str, Link]) -> float:
        """What it takes by the assumptions."""
        passes, share = PASSES[self.operation](processes)
        link = links[self.operation]
        return passes * (link.latency + share * self.size / link.bandwidth)


def run_all(exchanges: Iterable[Exchange]) -> None:
    """One after the other."""
    for exchange in exchanges:
        exchange.run()


@contextmanager
def recorded() -> Iterator[list[Exchange]]:
    """Within the block, every gather and all-reduce is added to the yielded list."""
    exchanges: list[Exchange] = []
    gather, reduce = dist.all_gather, dist.all_reduce

    def all_gather(parts: list[torch.Tensor], rows: torch.Tensor) -> Any:
        exchanges.append(Exchange("gathers", "all_gather", len(parts) * rows.nbytes))
        return gather(parts, rows)

    def all_reduce(total: torch.Tensor, **options: Any) -> Any:
        # DDP's hook does not wait for the end; the backward pass of a gather does.
        exchanges.append(Exchange("gradients" if options.get("async_op") else "gathers", "all_reduce", total.nbytes))
        return reduce(total, **options)

    with mock.patch.object(dist, "all_gather", all_gather), mock.patch.object(dist, "all_reduce", all_reduce):
        yield exchanges
