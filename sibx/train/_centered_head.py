"""The head whose mean over classes is kept at 0 while a model trains."""

import warnings

from torch import Tensor, nn

from sibx.models import center_head
from sibx.models.heads import head_module


def head_to_center(model: nn.Module, images: Tensor | None) -> nn.Linear | None:
    """Return the head of a model that can be centered; else None, of several scores with a warning.

    Args:
        model: the model, images -> scores.
        images: images (B, C, H, W), of which the first is used; None = noise of the model's own size.
    """
    try:
        head = head_module(model, images)
        if head.out_features == 1:  # a score by itself
            return None
        center_head(model, images)  # whether the head's outputs are the scores
    except ValueError as error:
        warnings.warn(f"`center_head` leaves this model as it is: {error}", stacklevel=2)
        return None
    return head
