"""Normalization of what is no image of floating-point numbers."""

import pytest
import torch

from sibx.images import IMAGENET

PIXELS = torch.zeros(3, 2, 2)
OTHERS = {
    "bytes": PIXELS.byte(),
    "integers": PIXELS.long(),
    "bool": PIXELS.bool(),
    "array": PIXELS.numpy(),
    "None": None,
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("change", [IMAGENET, IMAGENET.inverse], ids=["forward", "inverse"])
def test_refuses_other_numbers(change, kind):
    """In whole numbers the means round to zero, and so did the pixels."""
    with pytest.raises(ValueError, match="`images` must be a floating-point tensor"):
        change(OTHERS[kind])
