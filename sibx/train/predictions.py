"""Predictions and accuracy of a model on a data set."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from sibx._outputs import Output, hits, predicted
from sibx.datasets.base import MaskedBatch, MaskedDataset
from sibx.datasets.batches import load_batches
from sibx.datasets.part import Part
from sibx.models.layers import eval_mode
from sibx.runs.ranks import gather_objects, rank, world_size


def predict(
    model: nn.Module, dataset: MaskedDataset, *, output: Output = "auto", batch_size: int = 64, workers: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the predicted class and the label of every image, (N,) and (N,), on the CPU.

    Args:
        model: the model, images -> logits (B, K); it runs in eval mode and is left in the mode it was in.
        dataset: images with labels.
        output: what the logits are, see ``sibx.models.Output``.
        batch_size: number of images per forward pass.
        workers: number of processes that read the images ahead; 0 = this process reads them.
    """
    batches = _run(model, load_batches(dataset, batch_size, workers))
    found, labels = zip(*((predicted(logits, output), of_batch) for logits, of_batch in batches), strict=True)
    return torch.cat(found), torch.cat(labels)


def accuracy(
    model: nn.Module, dataset: MaskedDataset, *, output: Output = "auto", batch_size: int = 64, workers: int = 0
) -> float:
    """Return the share of images in [0, 1] whose label is predicted; see ``sibx.models.hits``.

    With several labels the mean over images of the share of known labels that are right.

    If a ``torch.distributed`` process group exists, all its ranks have to call this together; each predicts a part of
    the images, and all get the accuracy on all images.

    Args:
        model: the model, images -> logits (B, K); it runs in eval mode and is left in the mode it was in.
        dataset: images with labels.
        output: what the logits are, see ``sibx.models.Output``.
        batch_size: number of images per forward pass.
        workers: number of processes that read the images ahead; 0 = this process reads them.
    """
    own = range(rank(), len(dataset), world_size())
    batches = _run(model, load_batches(Part(dataset, own), batch_size, workers)) if own else ()
    shares = torch.cat([hits(logits, labels, output) for logits, labels in batches] or [torch.zeros(0)])
    known = shares[~shares.isnan()]
    totals = gather_objects((float(known.sum()), len(known)))
    return sum(right for right, _ in totals) / max(1, sum(count for _, count in totals))


def _run(model: nn.Module, loader: Iterable[MaskedBatch]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the logits and the labels of every batch, on the CPU."""
    device = next(model.parameters()).device
    with eval_mode(model), torch.inference_mode():
        for batch in loader:
            yield model(batch.images.to(device)).cpu(), batch.labels
