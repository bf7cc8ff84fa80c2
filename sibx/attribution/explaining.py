"""From images to heatmaps or attributions, by one method or by several that share their passes."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import check_images, check_logits, look_up, require
from sibx._outputs import Output, check_output, predicted, warn_of_probabilities
from sibx.attribution.heatmaps import to_heatmap
from sibx.attribution.many import Explainers, attribute
from sibx.attribution.method import MethodSpec
from sibx.attribution.methods import METHODS
from sibx.models.alignment import Align
from sibx.models.classes import scored_by_class
from sibx.models.failures import say_why
from sibx.models.layers import eval_mode


def explain(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    method: str | MethodSpec = "sib",
    target: Any = None,
    *,
    layer: nn.Module | str | None = None,
    output: Output = "auto",
) -> Tensor:
    """Explain images by one method and return heatmaps, in one call.

    A module runs in eval mode and is left in the mode it was in.

    Args:
        model: the model, images -> logits (B, K): a module, or any function for methods that need no module.
        images: images (B, C, H, W), normalized as the model expects them.
        method: key of METHODS, or a MethodSpec of your own.
        target: the class to explain, an int for all images or one int per image, 0 or 1 for a binary model with a
            single logit; None = the predicted class of each image.
        layer: module or dotted name, for methods that need a layer; None = ``find_cam_layer``.
        output: what the logits are: ``softmax``, ``sigmoid`` or ``raw``; ``auto`` = ``sigmoid`` for a single logit,
            else ``softmax``.

    Returns:
        Heatmaps (B, 1, H, W) float32, at least 0, detached: what metrics and overlays see (``to_heatmap``).

    Raises:
        ValueError: an unknown method, images of another shape, or an argument that the method refuses.

    Example:
        >>> model, images = build_model("tiny_cnn", num_classes=5), torch.rand(2, 3, 32, 32)
        >>> explain(model, images, "gradcam").shape
        torch.Size([2, 1, 32, 32])
    """
    require(callable(model), "model", "be a module or a function", model)
    check_images(images)
    check_output(output)
    spec = method if isinstance(method, MethodSpec) else look_up("method", method, METHODS)
    size = (images.shape[2], images.shape[3])
    with eval_mode(model) if isinstance(model, nn.Module) else nullcontext():
        if target is None and spec.uses_target:
            with torch.no_grad(), say_why(model, images):
                logits = model(images)
            check_logits(logits, len(images))
            warn_of_probabilities(logits, output)
            target = predicted(logits, output)
        return to_heatmap(
            attribute(spec, spec.build(scored_by_class(model, output), layer), images, target), size, spec.reduce
        )


def explain_many(
    model: nn.Module,
    images: Tensor,
    target: Any,
    methods: Sequence[str | MethodSpec],
    layer: nn.Module | str | None = None,
    *,
    output: Output = "auto",
    align: Align | None = None,
) -> dict[str, Tensor]:
    """Explain the same images by several methods; the gradient CAMs among them share one forward and one backward.

    Args:
        model: the model, images -> logits (B, K).
        images: images (B, C, H, W), normalized as the model expects them.
        target: the class to explain, an int for all images or one int per image, 0 or 1 for a binary model with a
            single logit; None = the single score of each image, for a model that tells no classes apart.
        methods: keys of METHODS, or MethodSpecs of your own.
        layer: module or dotted name, for methods that need a layer; None = ``find_cam_layer``.
        output: what the logits are, see ``explain``.
        align: where CAMs draw the units of the layer: ``receptive_field``: where they look; ``half_pixel``: in equal
            cells of the image; None = as the methods are built, for those of METHODS where they look.

    Returns:
        A dict from the names of the methods to their attributions, in the given order.

    Raises:
        ValueError: an unknown method or alignment, or a method that is named twice.
    """
    specs = [m if isinstance(m, MethodSpec) else look_up("methods", m, METHODS) for m in methods]
    names = [s.name for s in specs]
    require(len(set(names)) == len(names), "methods", "name no method twice", names)
    check_output(output)
    explainers = Explainers(model, specs, layer, "raw" if target is None else output, align)
    return {spec.name: maps for spec, maps in explainers.explain(images, target)}
