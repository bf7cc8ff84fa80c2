"""The items of a gallery: images of a data set, explained."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from sibx._checks import check_integer, check_logits, check_range, require
from sibx._outputs import Output, check_output, predicted
from sibx.attribution import Explainers, Methods, MethodSpec, resolve_methods, to_heatmap
from sibx.attribution.chosen import asks_all
from sibx.attribution.fitting import why_not
from sibx.datasets.base import MaskedBatch, MaskedDataset, check_dataset, collate
from sibx.datasets.several import one_per_class
from sibx.evaluation.class_match import output_for
from sibx.evaluation.fitting_images import fitted_methods
from sibx.evaluation.request import Target, target_for
from sibx.models import Align, eval_mode
from sibx.report.gallery import GalleryItem
from sibx.report.gallery_choice import class_by_class
from sibx.report.overlay import to_numpy
from sibx.runs.place import pick_device, placed


def make_gallery(
    models: Mapping[str, Callable[[Tensor], Tensor]],
    dataset: MaskedDataset,
    *,
    methods: Methods,
    images: int | Sequence[int] = 12,
    model: str = "",
    target: Target | None = None,
    output: Output = "auto",
    layer: nn.Module | str | None = None,
    align: Align | None = None,
    batch_size: int = 32,
    device: torch.device | str | None = None,
    signed: bool = False,
) -> list[GalleryItem]:
    """Explain images by several trainings of a model, for ``write_report(gallery=)`` or ``save_gallery``.

    Modules run in eval mode, and are left in the mode and on the device they were in.

    Args:
        models: value of the ``training`` column -> model, a module or any function images -> logits (B, K).
        dataset: data set whose images are shown.
        methods: methods that explain, in any form that ``evaluate`` takes.
        images: number of images, chosen ``class_by_class``; or the indices of the images.
        model: value of the ``model`` column.
        target: the class explained: the ``predicted`` one, which differs between models, or the ``label``; None =
            ``predicted``, for several labels per image the ``label``.
        output: what the logits are, see ``evaluate``.
        layer: layer that CAM methods look at; None = ``find_cam_layer`` of each model.
        align: where CAMs draw the units of the layer (see ``evaluate``).
        batch_size: images per forward pass.
        device: where to compute; None = where each model is, for a function the CPU.
        signed: show the attributions of methods with signs as they are, instead of their positive part, which metrics
            see.

    Raises:
        ValueError: no model, an empty data set, a number below 1, an index outside, or what ``evaluate`` refuses in a
            model or a method.
    """
    check_dataset(dataset, "dataset")
    require(bool(models), "models", "hold at least one", models)
    require(len(dataset) > 0, "dataset", "hold at least one image", len(dataset))
    target = target_for(dataset, target)
    check_output(output)
    check_integer("batch_size", batch_size, 1)
    output = output_for(dataset, output)
    dataset = one_per_class(dataset)
    chosen = _choose(dataset, images)
    specs = _methods(methods, models, dataset, layer, output, device)
    items: list[GalleryItem] = []
    for first in range(0, len(chosen), batch_size):
        batch = collate([dataset[i] for i in chosen[first : first + batch_size]])
        maps: list[dict[str, dict[str, Tensor]]] = [{s.name: {} for s in specs} for _ in range(len(batch))]
        for training, network in models.items():
            here = pick_device(network, device)
            with placed(network, here), eval_mode(network):
                explainers = Explainers(network, specs, layer, output, align)
                for spec, heatmaps in _explain(network, batch.to(here), explainers, target, signed):
                    for of_image, heatmap in zip(maps, heatmaps.cpu(), strict=True):
                        of_image[spec.name][training] = heatmap[0]
        items.extend(_items(dataset, batch, maps, model))
    return items


def _choose(dataset: MaskedDataset, images: int | Sequence[int]) -> list[int]:
    if not isinstance(images, Sequence):
        check_range("images", images, 1)
        return class_by_class(dataset, images)
    rule = f"be indices in [0, {len(dataset) - 1}]"
    require(len(images) > 0 and all(0 <= i < len(dataset) for i in images), "images", rule, images)
    return list(images)


def _methods(
    methods: Methods,
    models: Mapping[str, Callable[[Tensor], Tensor]],
    dataset: MaskedDataset,
    layer: nn.Module | str | None,
    output: Output,
    device: torch.device | str | None,
) -> list[MethodSpec]:
    """Return the methods that are shown: those asked for, or of all those that apply to every model."""
    for network in models.values():
        specs = fitted_methods(resolve_methods(methods, network), dataset)
    if asks_all(methods):
        image = collate([dataset[0]]).images
        for network in models.values():
            here = pick_device(network, device)
            with placed(network, here), eval_mode(network):
                reasons = why_not(specs, network, image.to(here), layer, output, wholly=True)
            specs = [spec for spec in specs if spec.name not in reasons]
    return specs


def _explain(
    network: Callable[[Tensor], Tensor],
    batch: MaskedBatch,
    explainers: Explainers,
    target: Target,
    signed: bool,
) -> Iterator[tuple[MethodSpec, Tensor]]:
    """Yield every method with its maps (B, 1, H, W)."""
    images = batch.images
    with torch.inference_mode():
        logits = network(images)
        check_logits(logits, len(batch), "models")
        found = predicted(logits, explainers.output)
    targets = found.clone() if target == "predicted" else batch.labels
    for spec, attributions in explainers.explain(images, targets):
        reduce = "sum" if signed and spec.signed else spec.reduce
        size = images.shape[2], images.shape[3]
        yield spec, to_heatmap(attributions, size, reduce).detach()


def _items(
    dataset: MaskedDataset, batch: MaskedBatch, maps: list[dict[str, dict[str, Tensor]]], model: str
) -> Iterator[GalleryItem]:
    pictures = to_numpy(dataset.normalization.inverse(batch.images))
    for row, of_image in enumerate(maps):
        yield GalleryItem(
            dataset=dataset.name,
            split=dataset.split,
            model=model,
            id=batch.ids[row],
            class_name=dataset.classes[int(batch.labels[row])],
            picture=pictures[row],
            mask=batch.masks[row, 0].numpy(),
            maps={m: {t: heatmap.numpy() for t, heatmap in found.items()} for m, found in of_image.items()},
        )
