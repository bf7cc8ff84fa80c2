"""How many passes through a network something takes, and what of it fits into a budget."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

FEWEST = 20  # images that a choice is made and checked on: ten each
C = TypeVar("C")


class TooManyPassesError(Exception):
    """More passes than were allowed."""


class Counter:
    """Counts passes: one per image and way, there, and back where gradients are recorded.

    Attributes:
        count: passes so far.
        limit: number of passes that are allowed; None = any.
    """

    def __init__(self) -> None:
        self.count, self.limit = 0, float("inf")

    def add(self, images: Tensor) -> None:
        """Count a batch of images that is about to go through the network.

        Raises:
            TooManyPassesError: more than ``limit`` then.
        """
        self.count += len(images) * (2 if torch.is_grad_enabled() else 1)
        if self.count > self.limit:
            raise TooManyPassesError

    @contextmanager
    def watching(self, model: Callable[[Tensor], Tensor]) -> Iterator[Callable[[Tensor], Tensor]]:
        """Yield the model, or for a plain function one that does the same, whose passes are counted in the block."""
        if not isinstance(model, nn.Module):

            def counted(images: Tensor) -> Tensor:
                self.add(images)
                return model(images)

            yield counted
            return
        handle = model.register_forward_pre_hook(lambda _, inputs: self.add(inputs[0]) if inputs else None)
        try:
            yield model
        finally:
            handle.remove()

    def of(self, run: Callable[[], object], limit: float) -> int | None:
        """Return how many passes a call takes; None = more than the limit, where it was stopped."""
        before, self.limit = self.count, self.count + limit
        try:
            run()
        except TooManyPassesError:
            return None
        finally:
            self.limit = float("inf")
        return self.count - before


def plan(costs: Mapping[C, int], always: Callable[[C], bool], images: int, budget: float) -> tuple[list[C], int]:
    """Return the candidates that fit into a budget, and the number of images that they are scored on.

    First come fewer images, not fewer than FEWEST; then the candidates that take the most passes are left out, until
    the others fit; what that leaves goes into images again.

    Args:
        costs: candidate -> passes per image.
        always: whether a candidate is never left out.
        images: number of images that there are.
        budget: number of passes.
    """
    kept, least = sorted(costs, key=lambda c: (not always(c), costs[c])), min(FEWEST, images)
    while sum(costs[c] for c in kept) * least > budget and not always(kept[-1]):
        kept.pop()
    total = sum(costs[c] for c in kept)
    affordable = int(min(images, budget // total)) if total else images
    return [c for c in costs if c in kept], max(least, affordable)
