"""What the networks of a workbench say about a picture, and why, without a browser."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sibx._checks import require
from sibx._outputs import probabilities
from sibx.app.networks import Network
from sibx.attribution import METHODS, MethodSpec, explain_many, resolve_methods, to_heatmap
from sibx.models import contrast, find_cam_layers
from sibx.models.looking import Look
from sibx.report import relative

LAYERS = 4  # that a CAM is offered, from the last one on


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """What a network says about a picture.

    Attributes:
        network: the network.
        look: the picture as it sees it.
        rates: probability of every class, (K,); of raw scores the scores.
    """

    network: Network
    look: Look
    rates: Tensor

    @property
    def predicted(self) -> int:
        """The class with the largest probability."""
        return int(self.rates.argmax())


@dataclass(frozen=True, slots=True, eq=False)
class Why:
    """One map of a network.

    Attributes:
        title: title of the method.
        values: the part of the map that lies on the picture, (h, w) float32 at the size that the network saw, divided
            by its own mean: 1 is as much as a flat map has everywhere. None = no map.
        problem: why there is no map, "" where there is one.
    """

    title: str
    values: np.ndarray | None
    problem: str = ""


def ask(network: Network, pixels: Tensor) -> Opinion:
    """Ask a network about a picture (C, H, W) in [0, 1].

    Raises:
        ValueError: a picture that it does not take, or scores that are not finite.
    """
    try:
        with network.lock:
            look = network.eye.look(pixels)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{network.name} does not take this picture: {error}") from error
    rates = probabilities(look.logits, network.eye.output)[0].cpu()
    require(not bool(rates.isnan().any()), "networks", f"give finite scores, which {network.name} does not", rates)
    return Opinion(network, look, rates)


def layers_of(network: Network, images: Tensor) -> list[str]:
    """Return the layers that CAMs are offered, the usual one first; [] for a network without any."""
    try:
        with network.lock:
            return find_cam_layers(network.eye.model, LAYERS, images)
    except (ValueError, RuntimeError):
        return []


def offered_methods() -> dict[str, str]:
    """Return title -> key of the methods that can be chosen: all but those that have to see a data set first."""
    return {spec.title: name for name, spec in METHODS.items() if not spec.needs_fit}


def explain(
    opinion: Opinion, methods: Sequence[str], target: int, rival: int | None = None, layer: str | None = None
) -> list[Why]:
    """Explain what a network says, by several methods; one that fails says why, the others are shown all the same.

    Args:
        opinion: what it says.
        methods: keys of METHODS.
        target: class to explain.
        rival: class to compare with: why ``target`` rather than this one; None = why ``target`` at all.
        layer: layer for CAMs; None = the last feature map.

    Raises:
        ValueError: a class or a method that does not exist, or a class that is compared with itself.
    """
    count, specs = len(opinion.rates), resolve_methods(methods)
    for argument, index in {"target": target, "rival": rival}.items():
        known = index is None or 0 <= index < count
        require(known, argument, f"be a class of {opinion.network.name}, 0..{count - 1}", index)
    require(rival != target, "rival", "be another class than the one that is explained", rival)
    model: Any = opinion.network.eye.model
    model = model if rival is None else contrast(model, rival)
    with opinion.network.lock:
        return list(_maps(opinion, model, specs, target, layer))


def _maps(
    opinion: Opinion, model: nn.Module, specs: Sequence[MethodSpec], target: int, layer: str | None
) -> Iterator[Why]:
    look, output = opinion.look, opinion.network.eye.output
    try:
        found = explain_many(model, look.images, target, specs, layer, output=output)
    except (ValueError, RuntimeError, AssertionError) as error:
        if len(specs) == 1:
            yield Why(specs[0].title, None, str(error))
            return
        for spec in specs:
            yield from _maps(opinion, model, [spec], target, layer)
        return
    top, left, height, width = look.seen.box
    for spec in specs:
        heatmap = to_heatmap(found[spec.name], (look.images.shape[2], look.images.shape[3]), spec.reduce).cpu()
        values = relative(heatmap[..., top : top + height, left : left + width])[0, 0]
        defined = bool(torch.isfinite(values).all())
        yield Why(spec.title, values.numpy(), "") if defined else Why(spec.title, None, "the map is zero everywhere")
