"""Masks as a user's own data set has them: pictures, arrays, tensors, paths or boxes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as tv

from sibx._checks import require
from sibx.datasets.boxes import draw_boxes
from sibx.datasets.folder_masks import read_mask, to_mask
from sibx.images.reading import Once, upright

Size = tuple[int, int]


def read_one(value: Any, size: Size, argument: str, warn: Once) -> Tensor:
    """Return one mask (1, H, W) bool of an image of this size; empty for None.

    The object is where a value is not 0, of floating-point values where they are above 1/2; several masks in one array
    are put together. Four numbers are a box (x0, y0, x1, y1), a list or an array (N, 4) several; torchvision's
    ``BoundingBoxes`` may have any of their formats.

    Raises:
        ValueError: anything else, or a mask of another size.
    """
    if value is None:
        return torch.zeros(1, *size, dtype=torch.bool)
    if isinstance(value, tv_tensors.BoundingBoxes):
        value = tv.convert_bounding_box_format(value, new_format=tv_tensors.BoundingBoxFormat.XYXY).as_subclass(Tensor)
        return _draw(value, size)
    if isinstance(value, str | Path):
        return _of_size(read_mask(Path(value), warn), size, argument)
    if isinstance(value, Image.Image):
        return _of_size(to_mask(upright(value, warn), "a mask", warn), size, argument)
    array = _to_array(value, argument)
    if _is_boxes(array, size):
        return _draw(torch.from_numpy(array), size)
    return _of_size(torch.from_numpy(_flat(array > (0.5 if array.dtype.kind == "f" else 0), size)), size, argument)


def read_several(value: Any, size: Size, present: list[str], argument: str, warn: Once) -> Tensor:
    """Return the masks (P, H, W) bool of the P classes that are there, in their order.

    Args:
        value: None, a mapping from names or indices of classes to masks or boxes, or a sequence or array with one mask
            for each class that is there.
        size: (H, W) of the image.
        present: names of these classes.
        argument: what the user calls the masks, for errors.
        warn: what keeps account of warnings.

    Raises:
        ValueError: anything else.
    """
    if value is None:
        return torch.zeros(len(present), *size, dtype=torch.bool)
    rule = f"hold one mask for each of the {len(present)} classes that are there, {present}"
    if isinstance(value, Mapping):
        require(set(value) <= set(present), argument, rule, list(value))
        value = [value.get(name) for name in present]
    listed = isinstance(value, list | tuple | Tensor | np.ndarray)
    require(listed and len(value) == len(present), argument, rule, value)
    nothing = torch.zeros(0, *size, dtype=torch.bool)
    return torch.cat([nothing, *(read_one(part, size, argument, warn) for part in value)])


def _to_array(value: Any, argument: str) -> np.ndarray:
    rule = "be a picture, its path, an array (H, W), boxes (N, 4) or None"
    known = isinstance(value, Tensor | np.ndarray | list | tuple)
    require(known, argument, rule, value)
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except ValueError:
        array = np.asarray("ragged")
    require(array.dtype.kind in "buif", argument, rule, value)
    return array


def _is_boxes(array: np.ndarray, size: Size) -> bool:
    return array.size == 0 or (array.ndim in (1, 2) and array.shape[-1] == 4 and array.shape != size)


def _draw(boxes: Tensor, size: Size) -> Tensor:
    """Draw boxes (N, 4) or (4,); what reaches out of the image by rounding, less than a pixel, is cut off."""
    boxes = boxes.reshape(-1, 4).double()
    most = torch.tensor([size[1], size[0]] * 2, dtype=torch.float64)
    near = torch.minimum(boxes.clamp(min=0), most)
    return draw_boxes([torch.where((near - boxes).abs() < 1, near, boxes)], size)[0]


def _flat(inside: np.ndarray, size: Size) -> np.ndarray:
    """Return (1, H, W): the union over the axis of an array of three that is not the image's."""
    if inside.ndim != 3:
        return inside[None]
    last = inside.shape[:2] == size and inside.shape[1:] != size
    return np.asarray(inside.any(axis=2 if last else 0, keepdims=False))[None]


def _of_size(mask: Tensor, size: Size, argument: str) -> Tensor:
    require(tuple(mask.shape) == (1, *size), argument, f"have the image's size {size}", tuple(mask.shape[1:]))
    return mask
