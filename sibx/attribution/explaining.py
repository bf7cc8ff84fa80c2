"""Images in, heatmaps or attributions out: by one method, or by several that share their passes."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import check_images, check_logits, look_up, require
from sibx.attribution.heatmaps import to_heatmap
from sibx.attribution.many import Explainers, attribute
from sibx.attribution.method import MethodSpec
from sibx.attribution.methods import METHODS
from sibx.models.layers import eval_mode


def explain(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    method: str | MethodSpec = "sib",
    target: Any = None,
    *,
    layer: nn.Module | str | None = None,
) -> Tensor:
    """Explain images by one method and return heatmaps: the short way, for a look.

    A module runs in eval mode and is left in the mode it was in.

    Args:
        model: images -> logits (B, K), a module, or any function for methods that need no module.
        images: (B, C, H, W), normalized as the model expects it.
        method: key of METHODS, or a MethodSpec of your own.
        target: the class explained, as for ``attribute``; None = the one that the model predicts for each image.
        layer: for methods that need one; None = ``find_cam_layer(model)``.

    Returns:
        (B, 1, H, W) float32, at least 0, detached: what metrics and overlays see (``to_heatmap``).

    Raises:
        ValueError: unknown method, images of another shape, or whatever the method refuses.

    Example:
        >>> model, images = build_model("tiny_cnn", 5), torch.rand(2, 3, 32, 32)
        >>> explain(model, images, "gradcam").shape
        torch.Size([2, 1, 32, 32])
    """
    check_images(images)
    spec = method if isinstance(method, MethodSpec) else look_up("method", method, METHODS)
    size = (images.shape[2], images.shape[3])
    with eval_mode(model) if isinstance(model, nn.Module) else nullcontext():
        if target is None and spec.uses_target:
            with torch.no_grad():
                logits = model(images)
            check_logits(logits, len(images))
            target = logits.argmax(1)
        return to_heatmap(attribute(spec, spec.build(model, layer), images, target), size, spec.reduce)


def explain_many(
    model: nn.Module,
    images: Tensor,
    target: Any,
    methods: Sequence[str | MethodSpec],
    layer: nn.Module | str | None = None,
) -> dict[str, Tensor]:
    """Explain the same images by several methods; the gradient CAMs among them share one forward and one backward.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W).
        target: the class, as for ``attribute``.
        methods: keys of METHODS, or specs of your own.
        layer: for methods that need one; None = ``find_cam_layer(model)``.

    Returns:
        Name -> attributions, in the order asked for.

    Raises:
        ValueError: unknown or repeated names.
    """
    specs = [m if isinstance(m, MethodSpec) else look_up("methods", m, METHODS) for m in methods]
    names = [s.name for s in specs]
    require(len(set(names)) == len(names), "methods", "name none twice", names)
    return {spec.name: maps for spec, maps in Explainers(model, specs, layer).explain(images, target)}
