"""How few points does a deletion or insertion curve need? Fixed steps against adaptive ones, on photographs.

Records the curves of 224 steps of a network, one method per image in turn, and looks how far the area of fewer points
is from theirs. The adaptive functions run on what was recorded, since their points lie on its grid.

    python benchmarks/experiments/adaptive_curves.py --photographs FOLDER --weights FILE
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from PIL import Image
from torch import Tensor, nn

from sibx import METHODS, build_method, build_model
from sibx.datasets import spread
from sibx.evaluation import heatmaps_of
from sibx.images import IMAGENET, resize_and_center_crop, to_pixels
from sibx.metrics import adaptive_deletion, deletion, insertion

SIDE, FINEST = 224, 224
EXPLAINED_BY = ("gradcam", "saliency", "integrated_gradients", "control_random")
FIXED = (14, 28, 56)
TOLERANCES = (0.02, 0.01, 0.005, 0.0025)
Outcome = tuple[Tensor, Tensor]  # area and number of points of every curve, (N,)


def record(network: nn.Module, files: list[Path]) -> dict[str, Tensor]:
    """Deletion and insertion curves of 224 steps, (N, 225) each, of the class predicted."""
    built = {name: build_method(name, network) for name in EXPLAINED_BY}
    curves: dict[str, list[Tensor]] = {"deletion": [], "insertion": []}
    for index, file in enumerate(files):
        name = EXPLAINED_BY[index % len(EXPLAINED_BY)]
        images = IMAGENET(resize_and_center_crop(to_pixels(Image.open(file)), SIDE))[None]
        with torch.inference_mode():
            targets = network(images).argmax(1)
        heatmaps = heatmaps_of(METHODS[name], built[name], images, targets)
        for kind, score in (("deletion", deletion), ("insertion", insertion)):
            curves[kind].append(score(network, images, heatmaps, targets, steps=FINEST, batch_size=25).probabilities)
    return {kind: torch.cat(parts) for kind, parts in curves.items()}


def fixed(curves: Tensor, steps: int) -> Outcome:
    """What equal shares give."""
    few = curves[:, :: FINEST // steps]
    return torch.trapezoid(few, dx=1 / steps), torch.full((len(curves),), steps + 1)


def adaptive(curves: Tensor, tolerance: float) -> Outcome:
    """What ``adaptive_deletion`` gives for networks that answer with these curves."""
    images = torch.ones(1, 1, FINEST, 1)  # one pixel for every step, the first of which goes first
    order = torch.arange(FINEST, 0, -1.0).view(1, 1, FINEST, 1)
    target = torch.tensor([0])

    def answer(curve: Tensor, frames: Tensor) -> Tensor:
        p = curve[FINEST - frames.sum((1, 2, 3)).long()]
        return torch.stack([p, 1 - p], 1).log()

    options: dict[str, Any] = {"tolerance": tolerance, "steps": FINEST}
    runs = [adaptive_deletion(partial(answer, curve), images, order, target, **options) for curve in curves]
    return torch.cat([run.auc for run in runs]), torch.cat([run.points for run in runs])


def table(curves: dict[str, Tensor], tolerance: float) -> str:
    """A line for every way of placing points: their number, and how many areas are within the tolerance."""
    lines = [
        f"| points | deletion: images, within {tolerance:g} | insertion | both | root mean square error | largest |",
        "|---|---|---|---|---|---|",
    ]
    ways: dict[str, Callable[[Tensor], Outcome]] = {f"{n} equal steps": partial(fixed, steps=n) for n in FIXED}
    ways |= {f"adaptive, tolerance {t:g}": partial(adaptive, tolerance=t) for t in TOLERANCES}
    for name, way in ways.items():
        outcomes = [way(c) for c in curves.values()]
        exact = [torch.trapezoid(c, dx=1 / FINEST) for c in curves.values()]
        errors = [area - truth for (area, _), truth in zip(outcomes, exact, strict=True)]
        counts = [points.double() for _, points in outcomes]
        every = torch.cat(errors)
        parts = [*zip(counts, errors, strict=True), (torch.cat(counts), every)]
        cells = [f"{n.mean():.1f}, {(e.abs() <= tolerance).double().mean():.1%}" for n, e in parts]
        cells += [f"{every.square().mean().sqrt():.4f}", f"{every.abs().max():.4f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    photographs: Path,
    weights: str,
    images: int = 20,
    tolerance: float = 0.005,
    threads: int | None = None,
    out: Path = Path("results/adaptive"),
) -> None:
    """Record the curves, write them to ``curves.pt`` and print the table; ``images`` x 450 passes of MobileNetV2.

    Args:
        photographs: folder of JPEG files.
        weights: ImageNet weights of MobileNetV2: "default", or the path of a state dict.
        images: how many, spread over the folder.
        tolerance: what "within" means.
        threads: of torch; default its own choice.
        out: folder; curves that lie there are not recorded again.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    files = sorted(f for f in photographs.iterdir() if f.suffix.lower() in (".jpg", ".jpeg"))
    kept, start = out / "curves.pt", time.perf_counter()
    if not kept.is_file():
        out.mkdir(parents=True, exist_ok=True)
        network = build_model("mobilenet_v2", 1000, weights).eval()
        torch.save(record(network, [files[i] for i in spread(len(files), images)]), kept)
    curves = torch.load(kept, weights_only=True)
    print(table(curves, tolerance))
    ways = [c.diff(dim=1).abs().sum(1).median().item() for c in curves.values()]
    print("\nLength of the way up and down (median; at most 1 for a curve that only falls or rises):")
    print(", ".join(f"{kind} {way:.2f}" for kind, way in zip(curves, ways, strict=True)))
    print(f"{len(curves['deletion'])} images, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
