"""Whether a model gets its images normalized as it was trained."""

import warnings
from collections.abc import Callable

from torch import Tensor

from sibx.datasets import MaskedDataset, Renormalized
from sibx.images.normalization import Normalization
from sibx.models import about

CLOSE = 0.01  # two means or deviations that differ by less come from rounding (127 / 255 and 0.5)


def differ(first: Normalization, second: Normalization) -> bool:
    """Whether two normalizations of as many channels are not the same; one that is not known differs from none."""
    if not first.mean or len(first.mean) != len(second.mean):
        return False
    pairs = zip((*first.mean, *first.std), (*second.mean, *second.std), strict=True)
    return any(abs(one - other) > CLOSE for one, other in pairs)


def as_trained(wanted: Normalization | None, data: MaskedDataset) -> MaskedDataset:
    """Return the data set in the normalization that a model was trained with; None = that is not known."""
    return Renormalized(data, wanted) if wanted is not None and differ(wanted, data.normalization) else data


def warn_of_normalization(model: Callable[[Tensor], Tensor], data: MaskedDataset) -> None:
    """Warn if a model was trained on images normalized in another way than those of the data set."""
    wanted = about(model).normalization
    if wanted is not None and differ(wanted, data.normalization):
        warnings.warn(
            f"the model was trained on images normalized by mean {wanted.mean} and std {wanted.std}, but {data!r} "
            f"normalizes by mean {data.normalization.mean} and std {data.normalization.std}: it sees other numbers "
            "than it learned from. sibx.datasets.Renormalized(data, sibx.models.about(model).normalization) gives it "
            "its own.",
            stacklevel=3,
        )
