"""The head whose mean over classes is kept at 0 while a model trains."""

import warnings

import torch
from torch import Tensor, nn

from sibx.models import eval_mode
from sibx.models.centering import scoring_head
from sibx.models.finding import image_for
from sibx.models.scored import unwrap


def head_to_center(model: nn.Module, images: Tensor | None = None) -> nn.Linear | None:
    """Return the head of a model that can be centered; else None, of several scores with a warning.

    Args:
        model: the model, images -> scores.
        images: images (B, C, H, W), of which the first is used; None = noise of the model's own size.
    """
    image = image_for(unwrap(model), None) if images is None else images[:1]
    with torch.no_grad(), eval_mode(model):
        if model(image).shape[-1] == 1:  # a score by itself
            return None
    try:
        return scoring_head(model, image)
    except ValueError as error:
        warnings.warn(f"`center_head` leaves this model as it is: {error}", stacklevel=2)
        return None
