"""What maps, scores and losses were when somebody last looked: numbers that another version of a library may not move.

    python -m tests.helpers.golden

writes ``tests/golden.csv`` anew and prints what moved; a change that is meant is committed with its reason.
"""

import csv
import io
from collections.abc import Iterator
from functools import partial
from math import isnan, nan
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sibx.attribution import METHODS, build_method
from sibx.datasets import SyntheticDataset, collate
from sibx.evaluation import heatmaps_of
from sibx.metrics import METRICS, Explained
from sibx.models import TinyCNN
from sibx.objectives import SIBConfig
from sibx.train import TrainConfig, fine_tune
from tests.helpers.methods import build, network_for

FILE = Path(__file__).parents[1] / "golden.csv"
# Torch 2.6 and 2.14 are 4e-7 apart, a processor with its oldest and with its newest instructions 4e-6.
BAND = 1e-4
WIDER = {
    "blur_ig": 1e-3,  # in strongly blurred pictures rounding decides which pixel is the largest of a pooling window
}
# A band is a share of the number, or of this where the number is smaller. Maps are given in units of their own size.
FLOOR = {"input": 1.0, "map": 1.0, "score": 0.01, "loss": 0.01}


class Line(NamedTuple):
    """One number: ``map``, ``score``, ``loss`` or ``input``; of what; which number."""

    kind: str
    name: str
    number: str

    def band(self, value: float) -> float:
        """Return how far the number may move from a value."""
        return WIDER.get(self.name, BAND) * max(FLOOR[self.kind], abs(value))


Numbers = dict[Line, float]


def drawn(*shape: int) -> Tensor:
    """Return fixed numbers from [0, 1) of a shape."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def data(size: int) -> SyntheticDataset:
    """Return the pictures with their masks and labels."""
    return SyntheticDataset("test-id", 32, size=size)


def sharp(model: nn.Module) -> nn.Module:
    """Return the model with larger weights: the logits of one that was never trained are all but equal."""
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data *= 3
    return model


def certain(model: nn.Module, images: Tensor) -> nn.Module:
    """Return the model with another scale and zero of its logits: sure of its class, of which there are several."""
    (head,) = (part for part in model.modules() if isinstance(part, nn.Linear))
    with torch.no_grad():
        head.weight *= 50
        head.bias -= model(images).mean(0)
    return model


def network(name: str) -> nn.Module:
    """Return the network that a method of this name explains."""
    model = network_for(name)
    return sharp(model) if isinstance(model, TinyCNN) else model


def summed_up(values: Tensor) -> dict[str, float]:
    """Sum up maps: their size, and in that unit their mean and their sum with fixed signs, which sees places."""
    values = values.detach().double()
    size = values.square().mean().sqrt()
    units = values / size
    places = (units * (drawn(*values.shape) - 0.5).sign()).sum() / units.numel() ** 0.5
    return {"log size": size.log().item(), "mean": units.mean().item(), "places": places.item()}


def inputs() -> Iterator[tuple[str, dict[str, float]]]:
    """What all else is computed from: if these move, so does all else."""
    batch = collate(list(data(4)))
    yield "pictures", summed_up(batch.images)
    yield "masks", summed_up(batch.masks)
    yield "weights", summed_up(torch.cat([p.flatten() for p in network("sib").parameters()]))


def maps() -> Iterator[tuple[str, dict[str, float]]]:
    """Every method: the maps of two pictures."""
    images = collate(list(data(2))).images
    for name in METHODS:
        yield name, summed_up(build(name, network(name)).attribute(images, target=0))


def explain_with(model: TinyCNN) -> partial[Tensor]:
    """Return saliency maps of a model, for metrics that explain again."""
    return partial(heatmaps_of, METHODS["saliency"], build_method("saliency", model))


def explained() -> Explained:
    """Return four pictures with maps in which no two pixels are equal, so that rounding changes no order."""
    batch = collate(list(data(4)))
    model = certain(network("sib"), batch.images)
    return Explained(
        heatmaps=drawn(4, 1, 32, 32),
        masks=batch.masks,
        undefined=torch.zeros_like(batch.masks),
        images=batch.images,
        targets=model(batch.images).argmax(1),
        model=model,
        normalization=SyntheticDataset.normalization,
        explain=explain_with(model),
        explain_with=explain_with,
        baseline=torch.zeros_like,
    )


def scores() -> Iterator[tuple[str, dict[str, float]]]:
    """Every metric: the mean of four images, of those for which it is defined."""
    scored = explained()
    for name, metric in METRICS.items():
        yield name, {"mean": metric.score(scored).nanmean().item()}


def losses() -> Iterator[tuple[str, dict[str, float]]]:
    """A fine-tuning of two steps: what it minimized in each."""
    config = TrainConfig(objective=SIBConfig(), epochs=2, batch_size=8, learning_rate=1e-2)
    torch.manual_seed(0)
    for line in fine_tune(sharp(TinyCNN(8, width=8)), data(8), config=config, progress=False).history:
        yield f"step {line.pop('epoch'):.0f}", {name: value for name, value in line.items() if not isnan(value)}


def computed() -> Numbers:
    """Compute all numbers."""
    kinds = {"input": inputs, "map": maps, "score": scores, "loss": losses}
    return {
        Line(kind, name, number): value
        for kind, lines in kinds.items()
        for name, numbers in lines()
        for number, value in numbers.items()
    }


def read(text: str) -> Numbers:
    """Read a table of numbers."""
    return {Line(*line[:3]): float(line[3]) for line in list(csv.reader(io.StringIO(text)))[1:]}


def write(numbers: Numbers) -> str:
    """Write a table of numbers, with more digits than their bands need."""
    text = io.StringIO()
    lines = [(*line, f"{value:.8g}") for line, value in numbers.items()]
    csv.writer(text, lineterminator="\n").writerows([(*Line._fields, "value"), *lines])
    return text.getvalue()


def moved(now: Numbers, before: Numbers) -> list[str]:
    """Say which numbers left their bands, came or went."""
    return [
        f"{' '.join(line)}: {before.get(line)} -> {now.get(line)}"
        for line in {**before, **now}
        if not abs(now.get(line, nan) - before.get(line, nan)) <= line.band(before.get(line, nan))
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    numbers = computed()
    print(*moved(numbers, read(FILE.read_text()) if FILE.exists() else {}), sep="\n")
    FILE.write_text(write(numbers))
