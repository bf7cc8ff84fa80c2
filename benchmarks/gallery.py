"""One picture under every method, for two classes: two photographs are joined side by side and each is asked for.

A map that does not move to the other half with the class does not explain the class. Methods that refuse the network
say so in their cell.

    python benchmarks/gallery.py --left CAT.jpg --right DOG.jpg --classes 283 242 --weights FILE --out gallery.png
"""

from collections.abc import Callable
from pathlib import Path

import torch
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from sibx import METHODS, build_model
from sibx.attribution import RISE, Method, MethodSpec, ScoreCAM, build_method
from sibx.evaluation import heatmaps_of
from sibx.images import IMAGENET, resize_and_center_crop, to_pixels
from sibx.report import draw_overlay

SIDE, COLUMNS = 224, 4
# The same methods at a price for looking at one picture.
QUICK: dict[str, Callable[[nn.Module], Method]] = {
    "rise": lambda model: RISE(model, masks=400),
    "scorecam": lambda model: ScoreCAM(model, top_channels=160),
}


def main(
    left: Path,
    right: Path,
    classes: tuple[int, int],
    weights: str | None,
    model: str = "mobilenet_v2",
    out: Path = Path("gallery.png"),
) -> None:
    """Draw the picture.

    Args:
        left: photograph of the first class.
        right: photograph of the second class.
        classes: the two ImageNet class indices.
        weights: ImageNet weights: "default", the path of a state dict, or None for random ones.
        model: key of MODELS.
        out: file to write.
    """
    torch.manual_seed(0)
    network = build_model(model, 1000, weights).eval()
    pixels = torch.cat([resize_and_center_crop(to_pixels(Image.open(f)), SIDE) for f in (left, right)], 2)
    rows = -(-len(METHODS) // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 1.3 * rows), layout="constrained")
    axes = figure.subplots(rows, 2 * COLUMNS, squeeze=False).flatten()
    picture = pixels.permute(1, 2, 0).numpy()
    nothing = torch.zeros(SIDE, 2 * SIDE, dtype=torch.bool).numpy()
    for index, spec in enumerate(METHODS.values()):
        for cell, target in zip(axes[2 * index : 2 * index + 2], classes, strict=True):
            cell.set_title(f"{spec.title}: {target}" if spec.uses_target else spec.title, fontsize=7)
            try:
                heatmap = explain(spec, network, IMAGENET(pixels)[None], target)
            except ValueError:
                cell.set_xticks([])
                cell.set_yticks([])
                cell.text(0.5, 0.5, "refuses this network", ha="center", fontsize=7, transform=cell.transAxes)
                continue
            draw_overlay(cell, picture, nothing, heatmap.numpy())
            cell.set_xlabel(f"left half {heatmap[:, :SIDE].sum() / heatmap.sum():.2f}", fontsize=6)
    for cell in axes[2 * len(METHODS) :]:
        cell.axis("off")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def explain(spec: MethodSpec, network: nn.Module, images: Tensor, target: int) -> Tensor:
    """The heatmap (H, W) of one image."""
    method = QUICK[spec.name](network) if spec.name in QUICK else build_method(spec, network)
    return heatmaps_of(spec, method, images, torch.tensor([target]))[0, 0]


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
