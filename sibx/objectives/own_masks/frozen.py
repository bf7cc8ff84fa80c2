"""A model's own masks, made from its evidence."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from sibx._checks import require
from sibx._outputs import Output, predicted
from sibx._progress import bar_over
from sibx.attribution.cotangents import Cotangent, differentiate, potential
from sibx.datasets.base import MaskedDataset, check_dataset
from sibx.datasets.batches import load_batches
from sibx.datasets.several import one_per_class
from sibx.models.alignment import find_alignment
from sibx.models.finding import find_cam_layer, name_layer, resolve_layer
from sibx.models.layers import eval_mode, record
from sibx.models.layout import to_grid
from sibx.objectives.config import SIBConfig
from sibx.objectives.evidence import class_evidence, contribution
from sibx.objectives.masks import Frozen
from sibx.objectives.own_masks.tail import Tail
from sibx.objectives.own_masks.trust import trust_in, warn_of_distrust
from sibx.runs.place import pick_device, placed

SHIFT = 1 / 16  # share of a side: half a cell of a stride-8 network at 64 px; averages over the position of the grid


def self_masks(
    model: nn.Module,
    dataset: MaskedDataset,
    *,
    config: SIBConfig,
    output: Output = "auto",
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Tensor:
    """Compute the frozen masks of a model, one per image of the data set, in its order.

    With several labels per image there is one for each image and class present, made of the evidence for this class.

    The evidence at the layer (class evidence, or the strength of the VJP, by ``Frozen.reading``) is drawn at the
    image's size (by ``config.align``), averaged over four copies of the image (mirrored or not, shifted by 1/16 of a
    side or not, each moved back), and turned into a mask by ``Frozen.rule`` (a soft mask is cut at 1/2).

    Two warnings say, from 20 images on, when the masks mean little: the model predicts the labels hardly better than
    always naming the most frequent class would; or its predicted class is kept no better by the masks alone than by
    everything else (mean probability with the rest at the data set's mean), for which no label is needed. Of several
    labels per image nothing is said.

    Args:
        model: the starting model; it runs in eval mode, and is left in the mode and on the device it was in.
        dataset: the images; their own masks are not used, and of labels only which of several are present.
        config: settings with ``Frozen`` masks; ``layers``, ``cotangent`` and ``align`` are used, too.
        output: what the logits are, see ``sibx.models.Output``.
        batch_size: number of images per pass.
        workers: number of processes that read the images ahead; 0 = this process reads them. Masks are the same.
        device: device to compute on; None = the model's.
        progress: whether to show a progress bar on stderr, where that is a terminal.

    Returns:
        Masks (N, 1, H, W) bool on the CPU; with several labels one for each image and class present, in this order, as
        ``sibx.datasets.OtherMasks`` takes them.

    Raises:
        ValueError: masks that are not Frozen, a layer that does not exist, outputs neither a feature map nor tokens, or
            cannot be aligned, or another output than ``sigmoid`` for several labels per image.

    Example:
        >>> data = build_dataset("synthetic", split="val", image_size=64, size=4)
        >>> model, config = build_model("tiny_cnn", num_classes=8), SIBConfig.recommended("self")
        >>> self_masks(model, data, config=config, progress=False).shape
        torch.Size([4, 1, 64, 64])
    """
    check_dataset(dataset, "dataset")
    nothing = torch.empty(0, 1, *dataset[0].image.shape[1:], dtype=torch.bool)
    batches = each_self_masks(
        model,
        dataset,
        config=config,
        output=output,
        batch_size=batch_size,
        workers=workers,
        device=device,
        progress=progress,
    )
    return torch.cat([nothing, *batches])


def each_self_masks(
    model: nn.Module,
    dataset: MaskedDataset,
    *,
    config: SIBConfig,
    output: Output = "auto",
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Iterator[Tensor]:
    """Yield what ``self_masks`` returns batch by batch, (n, 1, H, W): for ``sibx.datasets.PackedMasks``, or for a file.

    The arguments are those of ``self_masks``. The model is on its device until the last batch.
    """
    check_dataset(dataset, "dataset")
    several = dataset.several_labels
    require(output == "sigmoid" or not several, "output", "be 'sigmoid' for several labels per image", output)
    loader = load_batches(one_per_class(dataset), batch_size, workers)
    place, trust = pick_device(model, device), []
    with placed(model, place):
        for batch in bar_over(loader, "self masks", shown=progress):
            images, labels = batch.images.to(place), batch.labels.to(place)
            masks = evidence_masks(model, images, config, output=output, labels=labels if several else None)
            if output != "raw" and not several:
                trust.append(trust_in(model, images, labels, masks, output))
            yield masks.cpu()
    warn_of_distrust(trust)


def evidence_masks(
    model: nn.Module, images: Tensor, config: SIBConfig, *, output: Output = "auto", labels: Tensor | None = None
) -> Tensor:
    """Compute a model's own masks of one batch in the way of ``self_masks``: (B, 1, H, W) bool, detached.

    Useful for masks that follow the model while it learns, or for the masks of a teacher.

    Args:
        model: the model; it runs in eval mode and is left in the mode it was in.
        images: images (B, C, H, W) on the model's device.
        config: settings with ``Frozen`` masks; ``layers``, ``cotangent`` and ``align`` are used, too.
        output: what the logits are, see ``sibx.models.Output``.
        labels: with several labels per image the one whose mask is wanted of every row, (B,) int64. None = a mask of
            what the model looks at, whatever the class.

    Raises:
        ValueError: masks that are not Frozen, a layer that does not exist, outputs neither a feature map nor tokens, or
            cannot be aligned, or labels of classes that exclude each other.
    """
    frozen = config.masks.frozen
    require(frozen is not None, "config", "have Frozen masks, which are the model's own", config.masks)
    assert frozen is not None
    layer = name_layer(model, frozen.layer or list(layer_weights(model, config, images))[-1], images)
    with eval_mode(model):
        alignment = find_alignment(model, layer, images, config.align)
        tail = Tail(model=model, layer=layer, images=images, alignment=alignment, output=output, labels=labels)
        offers = {"images": images, "tail": tail}
        evidence = _averaged_evidence(tail, frozen, config.cotangent)
        return frozen.rule(evidence, **{name: offers[name] for name in getattr(frozen.rule, "needs", ())}) > 0.5


def layer_weights(model: nn.Module, config: SIBConfig, images: Tensor) -> Mapping[str, float]:
    """Return the weights of the layers by name, with ``"auto"`` replaced by the model's layer for these images."""
    return {find_cam_layer(model, images): 1.0} if isinstance(config.layers, str) else config.layers


def _averaged_evidence(tail: Tail, frozen: Frozen, cotangent: Cotangent) -> Tensor:
    images = tail.images
    total, size = torch.zeros_like(images[:, :1]), (images.shape[2], images.shape[3])
    shift = tuple(round(SHIFT * side) for side in size)
    for mirrored in (False, True):
        for down, right in ((0, 0), shift):
            copy = images.roll((down, right), (2, 3))
            evidence = _evidence(replace(tail, images=copy.flip(-1) if mirrored else copy), frozen, cotangent)
            evidence = tail.alignment.draw(evidence, size)
            total += (evidence.flip(-1) if mirrored else evidence).roll((-down, -right), (2, 3))
    return total


def _evidence(tail: Tail, frozen: Frozen, cotangent: Cotangent) -> Tensor:
    """Return non-negative evidence (B, 1, h, w) of one layer.

    A cotangent that names a class gets the tail's label, without labels the predicted class.
    """
    model, layer, images, output = tail.model, tail.layer, tail.images, tail.output
    leaf = images.detach().requires_grad_()
    modules = {} if layer == "input" else {layer: resolve_layer(model, layer)}
    with torch.enable_grad(), record(model, modules, tokens=True) as activations:
        logits = model(leaf)
    point, size = activations.get(layer, leaf), (images.shape[2], images.shape[3])
    if frozen.reading == "class-evidence":
        return class_evidence(logits, point, size, frozen.cotangents, output, tail.labels)
    classes = predicted(logits, output) if tail.labels is None else tail.labels
    (vjp_map,) = differentiate(potential(logits, cotangent, classes, output=output), [point])
    if layer == "input":
        return torch.linalg.vector_norm(vjp_map, dim=1, keepdim=True)
    return contribution(to_grid(vjp_map, size), to_grid(point, size)).abs().detach()
