"""How good are the bundled ImageNet weights, and which normalization do they want?

Needs a folder with one photograph of each of ImageNet's 1,000 classes, whose names begin with the class's synset
(``n01440764_tench.JPEG``). One process, one thread, about five minutes.

    python benchmarks/experiments/bundled.py --photographs FOLDER
"""

from pathlib import Path

import torch
from jsonargparse import auto_cli
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from sibx import MODELS, build_model
from sibx.images import IMAGENET, Normalization, to_pixels

CLASSES, BATCH = 1000, 25
MARGIN = 32  # pixels that the resized photograph is wider than its central crop, on its shorter side


def read(path: Path, side: int) -> Tensor:
    """The central square (3, side, side) of a photograph, as the networks were trained on."""
    with Image.open(path) as picture:
        pixels = tv.resize(picture.convert("RGB"), [side + MARGIN], interpolation=InterpolationMode.BICUBIC)
        return to_pixels(tv.center_crop(pixels, [side, side]))


def ranks(network: nn.Module, normalization: Normalization, pixels: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the true one, (B,)."""
    with torch.inference_mode():
        logits = network(normalization(pixels))
    return (logits > logits.gather(1, labels[:, None])).sum(1)


def measure(name: str, files: list[Path]) -> list[str]:
    """A line of the table for each normalization."""
    network = build_model(name, CLASSES, "bundled").eval()
    side = int(network.image_size)  # type: ignore[arg-type]
    ways = {"its own": MODELS[name].normalization, "ImageNet's": IMAGENET}
    found: dict[str, list[Tensor]] = {way: [] for way in ways}
    for start in range(0, len(files), BATCH):
        pixels = torch.stack([read(file, side) for file in files[start : start + BATCH]])
        labels = torch.arange(start, start + len(pixels))
        for way, normalization in ways.items():
            found[way].append(ranks(network, normalization, pixels, labels))
    lines = []
    for way, normalization in ways.items():
        rank = torch.cat(found[way])
        numbers = f"{(rank < 1).double().mean():.3f} | {(rank < 5).double().mean():.3f}"
        lines.append(f"| {name} | {side} | {way} | {normalization.mean} | {normalization.std} | {numbers} |")
    return lines


def main(
    photographs: Path, models: tuple[str, ...] = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
) -> None:
    """Print the table.

    Args:
        photographs: folder with one photograph of each of the 1,000 classes.
        models: keys of MODELS that have bundled weights.
    """
    torch.set_num_threads(1)
    files = sorted(photographs.glob("n*.JPEG"))
    if len(files) != CLASSES:
        raise ValueError(f"`photographs` must hold {CLASSES} files n*.JPEG, but got {len(files)} in {photographs}.")
    print("| model | side | normalization | mean | std | top-1 | top-5 |\n|---|---|---|---|---|---|---|")
    for name in models:
        print(*measure(name, files), sep="\n", flush=True)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
