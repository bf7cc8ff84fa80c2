"""Eigen-CAM (Muhammad and Yeasin, IJCNN 2020)."""

from typing import Any

import torch
from torch import Tensor

from sibx.attribution.cam import CAM
from sibx.attribution.heatmaps import image_size
from sibx.models.layout import to_grid


class EigenCAM(CAM):
    """Eigen-CAM: relu of the activations' projection on their first right singular vector.

    The rows of the decomposed matrix are the channel vectors of the positions; they are not centered, as published. A
    singular vector is defined up to its sign, which is chosen so that the sum of the map is positive. The target is
    ignored: the map shows what the layer responds to, not what speaks for a class.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module or its dotted name, or several, whose maps are merged; None = ``find_cam_layer``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        align: where a unit is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``: in the middle
            of its share of the image.
        merge: how the maps of several layers become one: ``"mean"`` (default) or ``"product"``.

    Attributions (B, 1, H, W), at least 0, in units of the activations.

    Raises:
        ValueError: a layer that does not exist, or whose output is neither a feature map (B, C, h, w) nor tokens
            (B, N, D) that fill a grid, or several layers with ``upsample=False``.

    Source: Muhammad and Yeasin, arXiv 2008.00299, section III.
    """

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "Eigen-CAM"

    @torch.no_grad()
    def _maps(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> list[Tensor]:
        _, activations = self._run(inputs, extra)
        size = image_size(inputs)
        return [self.project(to_grid(a, size)).relu() for a in activations]

    @staticmethod
    def project(activations: Tensor) -> Tensor:
        """Return the signed projection (B, 1, h, w) of activations (B, C, h, w), in at least float32."""
        precise = activations.to(torch.promote_types(activations.dtype, torch.float32))
        rows = precise.flatten(2).transpose(1, 2)
        finite = rows.isfinite().all((1, 2), keepdim=True)  # for NaN in one image the SVD would raise for all
        _, _, vectors = torch.linalg.svd(rows.where(finite, 0), full_matrices=False)
        projection = (rows @ vectors[:, :1].transpose(1, 2)).view(len(rows), 1, *activations.shape[2:])
        sign = projection.sum((1, 2, 3), keepdim=True).sign()
        return (projection * torch.where(sign == 0, 1, sign)).to(activations.dtype)
