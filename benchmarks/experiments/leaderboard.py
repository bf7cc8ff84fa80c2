"""Which method is the best? Every method by every metric, on several networks and sets, with controls as rows.

Takes ``leaderboard.yaml`` and works in rounds: a round scores some images of every cell (a network and a set) by some
of the metrics, all methods on the same images. What is done is kept, and a call goes on where the last one stopped.

    python benchmarks/experiments/leaderboard.py --root DATA --weights FILE --out results/leaderboard

Writes ``leaderboard_scores.csv`` after every cell: a line per network, set, image and metric, with a column of scores
for each method; and ``leaderboard_passes.csv``. ``leaderboard_shown.py`` makes the page of them.
"""

import contextlib
import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
import torch.nn.functional as F
import yaml
from jsonargparse import auto_cli
from PIL import Image
from torch import Tensor, nn

from sibx import METHODS, METRICS, MODELS, build_dataset, build_model, evaluate, explain, fine_tune
from sibx.attribution import (
    IBA,
    IDGI,
    LIME,
    RISE,
    XRAI,
    BlurIG,
    GradientSHAP,
    HSICAttribution,
    IntegratedGradients,
    KernelSHAP,
    MethodSpec,
    Occlusion,
    ScoreCAM,
    ShapleySampling,
    SmoothGrad,
    SmoothGradSquared,
    VarGrad,
)
from sibx.datasets import InMemoryDataset, MaskedDataset, MaskedSample, Part, Renormalized, spread
from sibx.evaluation import Results
from sibx.images import resize_and_center_crop, to_pixels
from sibx.models import TinyViT
from sibx.studies import RECIPES

PLAN = Path(__file__).parents[1] / "studies" / "leaderboard.yaml"
KEY = ["model", "dataset", "image", "metric"]
TEXTS = ("model", "dataset", "method", "metric", "image_id")
BATCH, VIT_SIDE = 8, 64
FITTED = 32  # images that methods are fitted to
SLOW = {  # the classes of the methods whose settings the plan may change
    "smoothgrad": SmoothGrad,
    "smoothgrad_sq": SmoothGradSquared,
    "vargrad": VarGrad,
    "integrated_gradients": IntegratedGradients,
    "idgi": IDGI,
    "blur_ig": BlurIG,
    "gradient_shap": GradientSHAP,
    "xrai": XRAI,
    "occlusion": Occlusion,
    "rise": RISE,
    "hsic": HSICAttribution,
    "lime": LIME,
    "kernel_shap": KernelSHAP,
    "shapley_sampling": ShapleySampling,
    "scorecam": ScoreCAM,
    "iba": IBA,
}


class Photographs(MaskedDataset):
    """Photographs of ImageNet's classes without masks, one of each: files ``n<synset>_<name>.JPEG`` in their order."""

    name, split, no_masks = "imagenet-samples", "test", "photographs alone"

    def __init__(self, folder: Path, image_size: int):
        self.files, self.image_size = sorted(folder.glob("n*.JPEG")), image_size
        self.classes = tuple(file.stem for file in self.files)
        self.normalization = MODELS["mobilenet_v2"].normalization

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> MaskedSample:
        with Image.open(self.files[index]) as picture:
            pixels = resize_and_center_crop(to_pixels(picture.convert("RGB")), self.image_size)
        nothing = torch.zeros(1, *pixels.shape[1:], dtype=torch.bool)
        return MaskedSample(self.normalization(pixels), nothing, index, self.classes[index], -1, nothing)

    def label_of(self, index: int) -> int:
        """Return the class, without reading the picture."""
        return index


@dataclass(frozen=True)
class Cell:
    """A network and a set: what explains, what is explained, and what it was fitted to."""

    model: nn.Module
    data: MaskedDataset
    methods: list[MethodSpec]
    passes: dict[str, int]
    target: Literal["label", "predicted"]
    output: Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Bench:
    """The plan, and where its data, weights and networks are."""

    plan: Mapping[str, Any]
    root: Path
    weights: str
    out: Path

    def cells(self, networks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the names of every network and set; the transformer knows one set only."""
        for dataset in self.plan["sets"]:
            for model in networks:
                if model != "tiny_vit" or dataset == "synthetic":
                    yield model, dataset

    def cell(self, model: str, dataset: str) -> Cell:
        """Build the network of a cell, and read its images: classes in turn, so that any first few are balanced."""
        about = self.plan["sets"][dataset]
        tested = self.load(model, dataset, about.get("split", "test"))
        most = max(stop for _, stop in (r["images"] for r in self.plan["rounds"]))
        source = tested if dataset == "imagenet-samples" else self.load(model, dataset, "train")
        seen = InMemoryDataset.load(source, spread(len(source), self.plan["train_images"]))
        network = self.network(model, dataset, seen)
        images = torch.stack([seen[i].image for i in spread(len(seen), FITTED)])
        output: Literal["softmax", "sigmoid"] = "sigmoid" if about.get("several_labels") else "softmax"
        methods = prepared(self.plan["settings"], images)
        taken = self.counted(model, network, methods, images[:1])
        return Cell(
            model=network,
            data=InMemoryDataset(tested, samples_of(tested, most)),
            methods=[spec for spec in methods if spec.name in taken],
            passes=taken,
            target=about.get("target", "label"),
            output=output,
        )

    def counted(self, model: str, network: nn.Module, methods: list[MethodSpec], image: Tensor) -> dict[str, int]:
        """Return ``passes``, counted once for a network, whatever the set is."""
        file = self.out / f"{model}.json"
        if not file.is_file():
            file.write_text(json.dumps(passes(network, methods, image)), encoding="utf-8")
        found: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def load(self, model: str, dataset: str, split: str) -> MaskedDataset:
        """Return a split, normalized as the network wants it; with all labels of a photograph to train on."""
        about, size = self.plan["sets"][dataset], VIT_SIDE if model == "tiny_vit" else self.plan["image_size"]
        place, options = self.root / about.get("folder", ""), dict(about.get("options", {}))
        if split == "train" and about.get("several_labels"):
            options["several_labels"] = True
        if dataset == "imagenet-samples":
            data: MaskedDataset = Photographs(place, size)
        else:
            data = build_dataset(dataset, str(place) if "folder" in about else None, split, size, **options)
        return data if model == "tiny_vit" else Renormalized(data, MODELS[model].normalization)

    def network(self, model: str, dataset: str, train: MaskedDataset) -> nn.Module:
        """Return ImageNet's network, with a linear head for the set's classes unless they are ImageNet's own."""
        torch.manual_seed(0)
        if model == "tiny_vit":
            return self.transformer(dataset)
        weights = self.weights if self.plan["networks"][model] == "default" else self.plan["networks"][model]
        network = build_model(model, len(train.classes), weights).eval()
        if dataset != "imagenet-samples":
            fit_head(network, train)
        return network.to(memory_format=torch.channels_last)

    def transformer(self, dataset: str) -> nn.Module:
        """Return the transformer, trained from scratch at the first call. Of ReLU, for the methods that guide it."""
        train, file = self.load("tiny_vit", dataset, "train"), self.out / "tiny_vit.pt"
        network = TinyViT(len(train.classes), activation="relu")
        if file.is_file():
            network.load_state_dict(torch.load(file, weights_only=True))
            return network.eval()
        seen = InMemoryDataset.load(train)
        trained = fine_tune(network, seen, config=RECIPES["from-scratch"].start, progress=False).model.eval()
        torch.save(trained.state_dict(), file)
        return trained


def samples_of(data: MaskedDataset, most: int) -> list[MaskedSample]:
    """Return samples of so many photographs, one of each, classes in turn."""
    found: dict[str, MaskedSample] = {}
    for index in in_turn(data):
        sample = data[index]
        found.setdefault(sample.photo or sample.id, sample)
        if len(found) == most:
            break
    return list(found.values())


def in_turn(data: MaskedDataset) -> list[int]:
    """Return all indices at random, but the first of every class before the second of any."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    seen: dict[int, int] = {}
    turns = []
    for index in order:
        label = int(data.label_of(index))
        seen[label] = seen.get(label, 0) + 1
        turns.append((seen[label], index))
    return [index for _, index in sorted(turns, key=lambda turn: turn[0])]


def fit_head(network: nn.Module, train: MaskedDataset, decay: float = 1e-3, steps: int = 100) -> None:
    """Fit the last linear layer to the labels of images; all below it stays."""
    found = list[Tensor]()
    *_, head = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    handle = head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    with torch.no_grad():
        for start in range(0, len(train), BATCH):
            network(torch.stack([train[i].image for i in range(start, min(start + BATCH, len(train)))]))
    handle.remove()
    features, labels = torch.cat(found), [train.label_of(i) for i in range(len(train))]
    targets = torch.stack([torch.as_tensor(label) for label in labels])
    known = targets.isfinite()  # of several labels some may be unknown
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        scores = head(features)
        several = targets.ndim == 2
        loss = (
            F.binary_cross_entropy_with_logits(scores[known], targets[known])
            if several
            else F.cross_entropy(scores, targets)
        )
        total: Tensor = loss + decay * head.weight.square().sum()
        total.backward()
        return total

    optimizer.step(closure)


def prepared(settings: Mapping[str, Any], images: Tensor) -> list[MethodSpec]:
    """Return all methods with the plan's settings; those that have to be fitted have seen images (N, C, H, W)."""
    specs = []
    for name, spec in METHODS.items():
        if name in settings:
            spec = replace(spec, build=partial(_build, SLOW[name], settings[name], spec.needs_layer))
        specs.append(spec.fitted_to(lambda: images))
    return specs


def _build(kind: Any, settings: Mapping[str, Any], takes_layer: bool, model: Any, layer: Any) -> Any:
    return kind(model, layer, **settings) if takes_layer else kind(model, **settings)


def passes(network: nn.Module, methods: list[MethodSpec], image: Tensor) -> dict[str, int]:
    """Return how many passes of an image, there or back, a map takes, counted on one (1, C, H, W).

    Methods that do not take the network, or take it in parts only and warn of it, are absent.
    """
    counted = [0]

    def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        counted[0] += len(inputs[0]) * (2 if torch.is_grad_enabled() else 1)

    explain(network, image, "gradcam", target=torch.tensor([0]))  # the layer is looked for once, for all
    found = {}
    handle = network.register_forward_pre_hook(count)
    for spec in methods:
        counted[0] = 0
        with contextlib.suppress(ValueError, Warning), warnings.catch_warnings():
            warnings.simplefilter("error")
            explain(network, image, spec, target=torch.tensor([0]))
            found[spec.name] = counted[0]
    handle.remove()
    return found


def score(cell: Cell, names: tuple[str, str], round_: Mapping[str, Any], metrics: list[str], place: Path) -> None:
    """Score the images of one round of a cell, and keep the results; methods take part that are quick enough."""
    first, stop = round_["images"]
    quick = [m for m in cell.methods if cell.passes[m.name] <= round_.get("most_passes", float("inf"))]
    masked = [m for m in metrics if not (cell.data.no_masks and METRICS[m].needs_masks)]
    images = Part(cell.data, range(first, min(stop, len(cell.data))))
    evaluate(
        cell.model,
        images,
        methods=quick,
        metrics=masked,
        target=cell.target,
        output=cell.output,
        batch_size=BATCH,
        labels={"model": names[0]},
        out_dir=place,
        resume=True,
        progress=False,
    )


def collect(out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the scores that are there, and the passes of a map; both have a column for each method.

    Scores have a line per network, set, image and metric, passes one per network.
    """
    done = [Results.load(file.parent) for file in sorted(out.glob("*/*/*/run.json"))]
    rows = pd.concat([result.rows.astype(dict.fromkeys(TEXTS, str)) for result in done])
    wide = rows.rename(columns={"image_id": "image"}).pivot(index=KEY, columns="method", values="value").reset_index()
    names = [name for name in METHODS if name in wide]
    passes = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(out.glob("*.json"))}
    return wide[[*KEY, *names]], pd.DataFrame(passes).T.rename_axis("model").reindex(columns=names).reset_index()


def main(
    root: Path,
    weights: str = "default",
    out: Path = Path("results/leaderboard"),
    plan: Path = PLAN,
    networks: list[str] | None = None,
) -> None:
    """Do the rounds that are not done yet.

    Args:
        root: folder of the data sets.
        weights: ImageNet weights of MobileNetV2: "default", or the path of a state dict.
        out: folder for the rounds and the tables.
        plan: the plan.
        networks: those of the plan to work on, default all; two processes with different ones may share ``out``.
    """
    torch.set_num_threads(1)
    bench = Bench(yaml.safe_load(plan.read_text(encoding="utf-8")), root, weights, out)
    out.mkdir(parents=True, exist_ok=True)
    read = cache(bench.cell)
    for round_ in bench.plan["rounds"]:
        metrics = [name for group in round_["metrics"] for names in bench.plan["metrics"][group] for name in names]
        for model, dataset in bench.cells(networks or list(bench.plan["networks"])):
            place = out / model / dataset / "-".join(map(str, (*round_["metrics"], *round_["images"])))
            if (place / "run.json").is_file():
                continue
            start = time.process_time()
            score(read(model, dataset), (model, dataset), round_, metrics, place)
            for name, table in zip(("scores", "passes"), collect(out), strict=True):
                table.to_csv(out / f"leaderboard_{name}.csv", index=False, float_format="%.4g", lineterminator="\n")
            print(f"{place.relative_to(out)}, {time.process_time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
