"""Which explanation of an untouched classifier lies on the object? Chooses the defaults of ``SIBAttribution`` and CAMs.

Explains the validation images of three sets with the outputs of VJP-IB, with CAMs drawn by both conventions, with other
methods, and with controls that see no network; nothing is trained on the two photographic sets. Prints one table per
set: mean over images, with 95 % bootstrap intervals in the CSV.

    python benchmarks/experiments/post_hoc.py --pets DATA --msrc DATA --weights FILE --out FOLDER
"""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from sibx import build_dataset, build_model, evaluate, fine_tune
from sibx.attribution import METHODS, DensityMask, GradCAM, LayerCAM, MethodSpec, SIBAttribution, build_method
from sibx.datasets import InMemoryDataset, spread
from sibx.evaluation import Interval, bootstrap_mean
from sibx.studies import RECIPES

# What is better than what, paired over images.
PAIRS = (
    ("Grad-CAM, receptive field", "Grad-CAM, half pixel"),
    ("LayerCAM, receptive field", "LayerCAM, half pixel"),
    ("R M (published M)", "R"),
    ("R M (M of the L2 norm)", "R M (published M)"),
    ("R M (published M)", "center M"),
)
METRICS = ("foreground_focus", "background_suppression", "pointing_game", "iou")
L2 = DensityMask(reduce="l2")
OURS = "our own measurement"
PLAIN = ("smoothgrad", "integrated_gradients", "saliency", "input_x_gradient")
CONTROLS = ("control_center", "control_abs_input", "control_input_contrast", "control_edges", "control_random")


class CenterTimesMask:
    """The centre control times VJP-IB's mask: how much of R M's score is the mask alone."""

    def __init__(self, model: nn.Module):
        self.masks, self.center = SIBAttribution(model), build_method("control_center", model)

    def attribute(self, inputs: Tensor, target: Any = None, **_: Any) -> Tensor:
        """Return (B, 1, H, W)."""
        return self.center.attribute(inputs)[:, :1] * self.masks.soft_mask(inputs)


def candidates(middle_layer: str) -> list[MethodSpec]:
    """Every map to compare; ``middle_layer`` is a name in the model."""

    def sib(title: str, **options: Any) -> MethodSpec:
        return MethodSpec(title, title, lambda model, _: SIBAttribution(model, **options), OURS, uses_target=False)

    def cam(title: str, cls: type, align: str) -> MethodSpec:
        return MethodSpec(title, title, lambda model, layer: cls(model, layer, align=align), OURS, signed=True)

    return [
        sib("R", output="vjp"),
        sib("R M (published M)"),
        sib("R M (M of the L2 norm)", mask=L2),
        sib("M (published)", output="mask"),
        sib("M (L2 norm)", output="mask", mask=L2),
        sib("x R M (M of the L2 norm)", mask=L2, multiply_by_inputs=True),
        MethodSpec(
            "c M, middle layer",
            "c M, middle layer",
            lambda model, _: SIBAttribution(model, layer=middle_layer),
            OURS,
            uses_target=False,
        ),
        MethodSpec("R_y M (class)", "R_y M (class)", lambda model, _: SIBAttribution(model, mask=L2), OURS),
        cam("Grad-CAM, half pixel", GradCAM, "half_pixel"),
        cam("Grad-CAM, receptive field", GradCAM, "receptive_field"),
        cam("LayerCAM, half pixel", LayerCAM, "half_pixel"),
        cam("LayerCAM, receptive field", LayerCAM, "receptive_field"),
        *(METHODS[name] for name in PLAIN),
        MethodSpec("center M", "center M", lambda model, _: CenterTimesMask(model), OURS, uses_target=False),
        *(METHODS[name] for name in CONTROLS),
    ]


def measure(model: nn.Module, dataset: InMemoryDataset, methods: list[MethodSpec]) -> pd.DataFrame:
    """One row per method (or pair of methods) and metric: mean over images, 95 % interval, images with a score."""
    results = evaluate(model.eval(), dataset, methods=methods, metrics=METRICS, batch_size=16)
    wide = results.rows.pivot(index="image_id", columns=["method", "metric"], values="value")
    names = [m.name for m in methods]
    values = {(name, metric): wide[name, metric] for name in names for metric in METRICS}
    for first, second in (pair for pair in PAIRS if set(pair) <= set(names)):
        values |= {(f"{first} - {second}", m): wide[first, m] - wide[second, m] for m in METRICS}
    return pd.DataFrame(
        {"set": dataset.name, "method": name, "metric": metric, **bootstrap_mean(column.to_numpy())._asdict()}
        for (name, metric), column in values.items()
    )


def main(
    pets: str | None = None,
    msrc: str | None = None,
    weights: str | None = None,
    images: int = 120,
    threads: int | None = None,
    out: Path = Path("results/post-hoc"),
) -> None:
    """Measure the synthetic set, and the photographic sets whose folders are given.

    Args:
        pets: folder of Oxford-IIIT Pet.
        msrc: folder of MSRC-v2.
        weights: ImageNet weights of MobileNetV2 for the photographs: "default", or the path of a state dict.
        images: per set, spread over its validation split (MSRC-v2: its test split, the larger one).
        threads: of torch; default its own choice.
        out: folder for ``scores.csv`` and ``scores.md``.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    tables = [measure(_train_tiny(), _load("synthetic", None, 64, "val", images), candidates("features.5"))]
    photographs = [("oxford-pets", pets, "val", {}), ("msrc-v2", msrc, "test", {"void": "background"})]
    for name, root, split, options in photographs:
        if root is not None:
            network = build_model("mobilenet_v2", 1000, weights)
            tables.append(measure(network, _load(name, root, 224, split, images, **options), candidates("features.13")))
    scores = pd.concat(tables, ignore_index=True)
    out.mkdir(parents=True, exist_ok=True)
    scores.to_csv(out / "scores.csv", index=False)
    text = "\n\n".join(_markdown(name, part) for name, part in scores.groupby("set", sort=False, observed=True))
    (out / "scores.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def _train_tiny() -> nn.Module:
    train = InMemoryDataset.load(build_dataset("synthetic", None, "train", 64))
    config = RECIPES["from-scratch"].start  # the embedded benchmark's own
    return fine_tune(build_model("tiny_cnn", len(train.classes)), train, config=config).model


def _load(name: str, root: str | None, size: int, split: str, images: int, **options: Any) -> InMemoryDataset:
    source = build_dataset(name, root, split, size, **options)
    return InMemoryDataset.load(source, spread(len(source), images))


def _markdown(name: object, scores: pd.DataFrame) -> str:
    lines = [f"### {name} ({scores['n'].max()} images)", "", "| method | " + " | ".join(METRICS) + " |"]
    lines.append("|---" * (len(METRICS) + 1) + "|")
    for method, part in scores.groupby("method", sort=False, observed=True):
        cells = part.set_index("metric").loc[list(METRICS)].to_dict("records")
        is_pair = " - " in str(method)
        texts = [f"{Interval.of(cell):+.3f}" if is_pair else f"{cell['mean']:.3f}" for cell in cells]
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
