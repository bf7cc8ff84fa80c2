"""Where do a trained network's Grad-CAM maps lie best? The share of the maps on the object at several offsets.

Unit (i, j) of the last feature map is drawn around pixel offset + 32 (i, j). ``receptive_field`` derives the offset
from the architecture alone; a trained network can look beside it. One process, one thread, about five minutes.

    python benchmarks/experiments/placement.py --pets DATA/oxford-iiit-pet-3 --msrc DATA/msrc-v2
"""

from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from sibx import MODELS, build_dataset, build_model
from sibx.datasets import MaskedDataset, spread
from sibx.metrics import foreground_focus
from sibx.models import ReceptiveField, receptive_field, record, resolve_layer

STRIDE, IMAGES = 32, 200
OFFSETS = (-16.0, -12.0, -8.0, 0.0, 8.0, 12.0, 15.5, 18.0, 22.0, 26.0, 31.0)


def grad_cam(network: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """Grad-CAM of the predicted classes on the layer's own grid, (B, 1, h, w)."""
    with record(network, {"layer": layer}) as outputs:
        logits = network(images.requires_grad_())
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), outputs["layer"])
    return (gradient.mean((2, 3), keepdim=True) * outputs["layer"]).sum(1, keepdim=True).relu().detach()


def measure(name: str, data: MaskedDataset, side: int) -> str:
    """A line of the table."""
    network = build_model(name, 1000, "bundled").eval().requires_grad_(False)
    layer = resolve_layer(network, None)
    found: dict[float, list[Tensor]] = {offset: [] for offset in OFFSETS}
    for index in spread(len(data), IMAGES):
        sample = data[index]
        if not sample.mask.any():
            continue
        images = MODELS[name].normalization(data.normalization.inverse(sample.image))[None]
        maps = grad_cam(network, layer, images)
        for offset, scores in found.items():
            drawn = ReceptiveField((STRIDE, STRIDE), (offset, offset)).draw(maps, (side, side))
            scores.append(foreground_focus(drawn, sample.mask[None]))
    means = [float(torch.cat(scores).nanmean()) for scores in found.values()]
    structural = receptive_field(network, layer, images).offset[0]
    cells = " | ".join(f"**{mean:.3f}**" if mean == max(means) else f"{mean:.3f}" for mean in means)
    return f"| {name} | {data.name} | {side} | {structural:g} | {cells} |"


def main(pets: Path, msrc: Path, model: str = "efficientnet_lite0", sides: tuple[int, ...] = (224, 225)) -> None:
    """Print the table.

    Args:
        pets: folder of Oxford-IIIT Pet.
        msrc: folder of MSRC-v2.
        model: key of MODELS that has bundled weights.
        sides: sides of the images in pixels.
    """
    torch.set_num_threads(1)
    offsets = " | ".join(f"{offset:g}" for offset in OFFSETS)
    print(f"| model | images | side | of the architecture | {offsets} |\n|{'---|' * (4 + len(OFFSETS))}")
    for key, root in (("oxford-pets", pets), ("msrc-v2", msrc)):
        for side in sides:
            print(measure(model, build_dataset(key, str(root), "test", side), side), flush=True)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
