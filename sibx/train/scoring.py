"""Predictions and accuracy of a model on a data set."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from sibx.datasets.base import MaskedDataset, collate
from sibx.models.layers import eval_mode
from sibx.train.distributed import gather_objects, rank, world_size


def predict(model: nn.Module, dataset: MaskedDataset, *, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """Return the predicted class and the label of every image, (N,) and (N,), on the CPU; the mode is restored."""
    return _predict(model, DataLoader(dataset, batch_size, collate_fn=collate))


def accuracy(model: nn.Module, dataset: MaskedDataset, *, batch_size: int = 64) -> float:
    """Return the share of images in [0, 1] whose largest logit is the label's.

    Once a ``torch.distributed`` process group exists, all its ranks have to call this together; each predicts its share
    of the images, and all get the accuracy on all of them.
    """
    own = range(rank(), len(dataset), world_size())
    hits = 0
    if own:
        predicted, labels = _predict(model, DataLoader(Subset(dataset, own), batch_size, collate_fn=collate))
        hits = int((predicted == labels).sum())
    return sum(gather_objects(hits)) / len(dataset)


def _predict(model: nn.Module, loader: "DataLoader[object]") -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    with eval_mode(model), torch.inference_mode():
        pairs = [(model(batch.images.to(device)).argmax(1).cpu(), batch.labels) for batch in loader]
    predicted, labels = zip(*pairs, strict=True)
    return torch.cat(predicted), torch.cat(labels)
