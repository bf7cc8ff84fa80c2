"""ShapleyCAM (Cai 2025): Grad-CAM with the curvature of the score."""

from typing import Any

import torch
from torch import Tensor

from sibx.attribution.cam import GradientCAM, LayerPass
from sibx.attribution.cotangents import differentiate
from sibx.attribution.gradcam import GradCAM
from sibx.attribution.heatmaps import image_size
from sibx.attribution.safe import select_scores
from sibx.models.differentiable import twice_differentiable
from sibx.models.layout import to_grid


class ShapleyCAM(GradientCAM):
    """Grad-CAM with weights ``mean (g - H a / 2)`` over places: the Shapley value of a channel to second order.

    H a is the product of the score's Hessian at the layer with the activations: what the channels do together. Where
    the score is linear in the layer (a pooled linear head) or piecewise linear (ReLU), H is 0 and the map is that of
    Grad-CAM; there the author scores with logits plus log-probabilities, which is a wrapper of the model.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module or its dotted name, or several, whose maps are merged; None = ``find_cam_layer``.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        align: where a unit is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``: in the middle
            of its share of the image.
        merge: how the maps of several layers become one: ``"mean"`` (default) or ``"product"``.
        create_graph: whether the map stays differentiable, for losses on it.

    Attributions (B, 1, H, W), at least 0, in units of the score.

    Raises:
        ValueError: a layer that does not exist, or whose output is neither a feature map (B, C, h, w) nor tokens
            (B, N, D) that fill a grid, or several layers with ``upsample=False``.

    Source: Cai, arXiv 2501.06261, for which a second backward pass is needed.
    """

    weigh = staticmethod(GradCAM.weigh)

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "ShapleyCAM"

    def _passes(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> list[LayerPass]:
        with twice_differentiable():
            scores, activations = self._run(inputs, extra)
            score = select_scores(scores, target, inputs[0].shape[0]).sum()
            gradients = differentiate(score, activations, create_graph=True)
            curved = [self._curvature(g, a) for g, a in zip(gradients, activations, strict=True)]
        size, found = image_size(inputs), zip(activations, gradients, curved, strict=True)
        return [LayerPass(to_grid(a, size), to_grid(g - h / 2, size)) for a, g, h in found]

    def _curvature(self, gradients: Tensor, activations: Tensor) -> Tensor:
        """Return H a, zeros where the gradient does not depend on the activations."""
        if not gradients.requires_grad:
            return torch.zeros_like(activations)
        keep = self.create_graph
        (product,) = torch.autograd.grad(
            gradients,
            activations,
            activations if keep else activations.detach(),
            retain_graph=True,
            create_graph=keep,
            allow_unused=True,
        )
        return torch.zeros_like(activations) if product is None else product
