"""From images to heatmaps or attributions, by one method or by several that share their passes."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sibx._checks import check_images, check_logits, require
from sibx._outputs import Output, check_output, predicted, warn_of_probabilities
from sibx.attribution.chosen import Methods, asks_all, resolve_methods
from sibx.attribution.fitting import applicable
from sibx.attribution.heatmaps import to_heatmap
from sibx.attribution.many import Explainers, attribute
from sibx.attribution.own_methods import AnyMethod, to_method
from sibx.models.alignment import Align
from sibx.models.class_map import ClassMap, named_classes
from sibx.models.classes import scored_by_class
from sibx.models.failures import say_why
from sibx.models.layers import eval_mode


def explain(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    method: AnyMethod = "sib",
    target: Any = None,
    *,
    layer: nn.Module | str | None = None,
    class_map: ClassMap | None = None,
    output: Output = "auto",
) -> Tensor:
    """Explain images by one method and return heatmaps, in one call.

    A module runs in eval mode and is left in the mode it was in.

    Args:
        model: the model, images -> logits (B, K): a module, or any function for methods that need no module.
        images: images (B, C, H, W), normalized as the model expects them, and of a size that it takes: a transformer
            mostly takes one alone. ``sibx.images.fit_picture`` brings a picture of any size to it, whole, and
            ``fit_picture(...).back(heatmaps)`` brings the maps to the picture (``sibx explain`` does both).
        method: key of METHODS, or one of your own: a MethodSpec, a function ``(model, images, targets) -> maps``, a
            Captum attribution or its class, or ``module:name`` of one (``to_method``).
        target: the class to explain, an int for all images or one int per image, 0 or 1 for a binary model with a
            single logit; None = the predicted class of each image. With ``class_map`` a class as the map calls it.
        layer: module or dotted name, for methods that need a layer; None = ``find_cam_layer``.
        class_map: for a model with other classes than the images, such as one of ImageNet: class -> output or several
            outputs of the model, each by name or index, such as ``{"cat": [281, 282, 283, 284, 285]}``; or ``"names"``:
            the outputs that are called as the target. The score of a class is then that of its outputs together, as in
            ``evaluate``, and without a target the predicted one of these classes, or of all others together, is
            explained.
        output: what the logits are: ``softmax``, ``sigmoid`` or ``raw``; ``auto`` = ``sigmoid`` for a single logit,
            else ``softmax``.

    Returns:
        Heatmaps (B, 1, H, W) float32, at least 0, detached: what metrics and overlays see (``to_heatmap``).

    Raises:
        ValueError: an unknown method, images of another shape, or of a size that the model does not take (the error
            names the right one), or an argument that the method refuses.

    Example:
        >>> model, images = build_model("tiny_cnn", num_classes=5), torch.rand(2, 3, 32, 32)
        >>> explain(model, images, "gradcam").shape
        torch.Size([2, 1, 32, 32])
    """
    require(callable(model), "model", "be a module or a function", model)
    check_images(images)
    check_output(output)
    spec = to_method(method, model=model)
    if class_map is not None:
        target = target.tolist() if isinstance(target, Tensor) else target
        model, _, target = named_classes(model, class_map, target, output)
    size = (images.shape[2], images.shape[3])
    single = not isinstance(target, str) and not (isinstance(target, list) and any(isinstance(t, list) for t in target))
    require(single, "target", "be one class per image ('all' and lists of lists: the method's own attribute)", target)
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
    methods: Methods,
    layer: nn.Module | str | None = None,
    *,
    output: Output = "auto",
    align: Align | None = None,
) -> dict[str, Tensor]:
    """Explain the same images by several methods; gradient CAMs share one forward and one backward pass.

    So do the attention methods among them.

    Args:
        model: the model, images -> logits (B, K).
        images: images (B, C, H, W), normalized as the model expects them.
        target: the class to explain, an int for all images or one int per image, 0 or 1 for a binary model with a
            single logit; None = the single score of each image, for a model that tells no classes apart.
        methods: methods in any form that ``explain`` takes, or a mapping from names of your own to such methods; or
            ``"all"``: all of METHODS; a warning says which do not apply to the model, and why.
        layer: module or dotted name, for methods that need a layer; None = ``find_cam_layer``.
        output: what the logits are, see ``explain``.
        align: where CAMs draw the units of the layer: ``receptive_field``: where they look; ``half_pixel``: in equal
            cells of the image; None = as the methods are built, for those of METHODS where they look.

    Returns:
        A dict from the names of the methods to their attributions, in the given order.

    Raises:
        ValueError: an unknown method or alignment, or a method that is named twice.
    """
    check_output(output)
    specs = resolve_methods(methods, model)
    if asks_all(methods):
        with eval_mode(model):
            specs = applicable(specs, model, images, layer, output)
    explainers = Explainers(model, specs, layer, "raw" if target is None else output, align)
    return {spec.name: maps for spec, maps in explainers.explain(images, target)}
