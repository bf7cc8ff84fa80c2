"""Heatmaps of the same images after every epoch of a training, as pictures in a folder."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from sibx._checks import check_integer, look_up
from sibx._files import atomic_file
from sibx._outputs import Output
from sibx.attribution import METHODS, explain
from sibx.datasets.base import MaskedDataset, spread
from sibx.report.overlay import montage
from sibx.train import Callback, Epoch


class DrawMaps(Callback):
    """A callback of ``fine_tune``: draws the same images' heatmaps before the first step and after every epoch.

    It writes ``epoch-000.png`` (before the first step of a new run), ``epoch-001.png`` and so on, each with one row per
    image and one column per method. Explained is the label, of several labels per image the predicted class.

    Args:
        data: images, spread over which some are drawn.
        folder: folder for the pictures; it is made if needed.
        images: number of images, at least 1.
        methods: keys of METHODS.
        output: what the model's scores are.

    Raises:
        ValueError: an unknown method, or fewer than one image.

    Example:
        >>> data = build_dataset("synthetic", split="val", image_size=64, size=8)
        >>> callback = DrawMaps(data, "maps", images=2, methods=["gradcam"])  # fine_tune(..., callbacks=[callback])
    """

    def __init__(
        self,
        data: MaskedDataset,
        folder: str | Path,
        *,
        images: int = 6,
        methods: Sequence[str] = ("sib", "gradcam"),
        output: Output = "auto",
    ):
        check_integer("images", images, 1)
        for name in methods:
            look_up("methods", name, METHODS)
        self.folder, self.methods, self.output = Path(folder), list(methods), output
        self.samples = [data[i] for i in spread(len(data), images)]
        self.normalization, self.classes = data.normalization, data.classes

    def on_start(self, model: nn.Module, epoch: int) -> None:
        """Draw the maps of the model that training starts from; of a run that goes on they are there already."""
        if epoch == 0:
            self._draw(model, 0)

    def on_epoch(self, epoch: Epoch) -> None:
        """Draw the maps of an epoch."""
        self._draw(epoch.model, epoch.number)

    def _draw(self, model: nn.Module, epoch: int) -> None:
        images = torch.stack([s.image for s in self.samples])
        masks = torch.stack([s.mask.any(0, keepdim=True) for s in self.samples])
        labels = [s.label for s in self.samples if isinstance(s.label, int)]
        titles = [self.classes[label] for label in labels]
        seen = images.to(next(model.parameters()).device)
        maps = {
            name: explain(model, seen, name, torch.tensor(labels) if labels else None, output=self.output).cpu()
            for name in self.methods
        }
        figure = montage(self.normalization.inverse(images).clamp(0, 1), masks, maps, titles or None)
        with atomic_file(self.folder / f"epoch-{epoch:03d}.png") as file:
            figure.savefig(file, dpi=120, format="png")
