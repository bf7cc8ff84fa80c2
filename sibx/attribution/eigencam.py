"""Eigen-CAM (Muhammad and Yeasin, IJCNN 2020)."""

from typing import Any

import torch
from torch import Tensor

from sibx.attribution.cam import CAM
from sibx.attribution.heatmaps import image_size
from sibx.models.layers import to_grid


class EigenCAM(CAM):
    """Eigen-CAM: relu of the activations' projection on their first right singular vector.

    The positions' channel vectors, one per row, are not centered, as published. A singular vector has no sign of its
    own; the one taken makes the sum of the map positive. The target plays no part: the map shows what the layer
    responds to, not what speaks for a class.

    Attributions (B, 1, H, W), at least 0, in units of the activations.

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
        finite = rows.isfinite().all((1, 2), keepdim=True)  # an SVD of NaN would raise for the whole batch
        _, _, vectors = torch.linalg.svd(rows.where(finite, 0), full_matrices=False)
        projection = (rows @ vectors[:, :1].transpose(1, 2)).view(len(rows), 1, *activations.shape[2:])
        sign = projection.sum((1, 2, 3), keepdim=True).sign()
        return (projection * torch.where(sign == 0, 1, sign)).to(activations.dtype)
