"""Images of a data set that methods see before they explain it."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from sibx.attribution import MethodSpec
from sibx.datasets.base import MaskedDataset, collate

FITTING_IMAGES = 64  # spread evenly over the data set


def fitted_methods(specs: Sequence[MethodSpec], dataset: MaskedDataset) -> list[MethodSpec]:
    """Return methods that are fitted to images of the data set when they are built, again for every model.

    Where there are fewer than two images, nothing can be fitted, and the methods stay as they are.
    """

    @cache
    def read() -> Tensor:
        count = min(FITTING_IMAGES, len(dataset))
        chosen = torch.linspace(0, len(dataset) - 1, count).round().long().tolist()
        return collate([dataset[i] for i in chosen]).images

    return [spec.fitted_to(read) for spec in specs] if len(dataset) > 1 else list(specs)
