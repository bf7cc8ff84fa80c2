"""Bad data, models and devices, for every function that goes through a data set."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from sibx import TrainConfig, evaluate, evaluate_reliance, evaluate_robustness, fine_tune, wrap
from sibx.datasets import MaskedDataset, Part
from sibx.models import TinyCNN
from tests.helpers.bad_input import Case
from tests.helpers.bad_tensors import CLASSES, network

COUNT, SIDE = 4, 12
Change = Callable[[list[Any]], list[Any]]  # of (image, mask, label)


def items(side: int = SIDE) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    """Return images with masks and labels."""
    images = torch.rand(COUNT, 3, side, side, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[..., side // 4 : side // 2 + 1, : side // 2 + 1] = True
    return [(image, mask, place % CLASSES) for place, image in enumerate(images)]


def third(**changed: object) -> Change:
    """What changes a part of the third item."""

    def change(good: list[Any]) -> list[Any]:
        parts = dict(zip(("image", "mask", "label"), good[2], strict=True)) | changed
        return [*good[:2], tuple(parts.values()), *good[3:]]

    return change


DATA: dict[str, Change] = {
    "a NaN in one image": third(image=torch.full((3, SIDE, SIDE), torch.nan)),
    "an image of another size": third(image=torch.rand(3, SIDE, SIDE + 1)),
    "an image of one channel": third(image=torch.rand(1, SIDE, SIDE)),
    "an image on the device meta": third(image=torch.rand(3, SIDE, SIDE, device="meta")),
    "a mask of another size": third(mask=torch.ones(1, SIDE, SIDE - 1, dtype=torch.bool)),
    "a mask of words": third(mask="here"),
    "a label that is no class": third(label=CLASSES),
    "a label that is NaN": third(label=float("nan")),
    "a file that is missing": third(image="nowhere.png"),
    "all of one class": lambda good: [(image, mask, 0) for image, mask, _ in good],
    "empty masks": lambda good: [(image, mask & False, label) for image, mask, label in good],
    "full masks": lambda good: [(image, mask | True, label) for image, mask, label in good],
    "inverted masks": lambda good: [(image, ~mask, label) for image, mask, label in good],
    "1 x 1 pixels": lambda _: items(1),
}


class _SaysNaN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images) * torch.nan


class _SaysMore(_SaysNaN):
    def forward(self, images: torch.Tensor) -> Any:
        return self.inner(images), None


MODELS: dict[str, Callable[[], object]] = {
    "nothing (None)": lambda: None,
    "on the device meta": lambda: network().to("meta"),
    "of fewer classes than the data": lambda: TinyCNN(2, width=4),
    "whose scores are NaN": _SaysNaN,
    "that returns a tuple": _SaysMore,
}


def data_cases() -> Iterator[Case]:
    """Yield the cases of evaluations and trainings."""
    for given, change in DATA.items():
        yield _case("dataset", given, lambda c=change: (network(), _wrapped(c)))
    for given, data in {"nothing (None)": None, "a list": [1, 2]}.items():
        yield _case("dataset", given, lambda d=data: (network(), d))
    yield _case("dataset", "empty", lambda: (network(), Part(_wrapped(), [])))
    for given, build in MODELS.items():
        yield _case("model", given, lambda b=build: (b(), _wrapped()))
    for name in ("meta", "gpu"):
        yield _case("device", name, lambda: (network(), _wrapped()), device=name)
    yield _case("batch_size", "0", lambda: (network(), _wrapped()), batch_size=0)
    yield _case("resume", "without a folder", lambda: (network(), _wrapped()), resume=True)


def _wrapped(change: Change = lambda good: good) -> MaskedDataset:
    names = [str(number) for number in range(CLASSES)]
    return wrap(change(items()), image=0, mask=1, label=2, classes=names, name="mine", split="all")


def _case(argument: str, given: str, make: Callable[[], tuple[Any, Any]], **options: object) -> Case:
    calls = {name: partial(_run, function, make, options) for name, function in FUNCTIONS.items()}
    return Case("evaluations and trainings", argument, given, calls)


def _run(function: Callable[..., bool], make: Callable[[], tuple[Any, Any]], options: dict[str, object]) -> str:
    with warnings.catch_warnings(action="ignore"):
        return "NaN" if function(*make(), **options) else "handled: done"


def _evaluate(model: Any, data: Any, **options: Any) -> bool:
    found = evaluate(
        model, data, methods=["saliency"], metrics=["foreground_focus"], target="label", progress=False, **options
    )
    return bool(found.rows["value"].isna().all())


def _reliance(model: Any, data: Any, **options: Any) -> bool:
    found = evaluate_reliance(model, data, backgrounds=["only_fg"], progress=False, **options)
    return bool(found.rows["value"].isna().all())


def _robustness(model: Any, data: Any, **options: Any) -> bool:
    found = evaluate_robustness(
        model, data, attacks=(), corruptions=["gaussian_noise"], severities=[1], progress=False, **options
    )
    return bool(found.rows["value"].isna().all())


def _fine_tune(model: Any, data: Any, batch_size: int = 2, **options: Any) -> bool:
    fine_tune(model, data, config=TrainConfig(epochs=1, batch_size=batch_size), progress=False, **options)
    return False


FUNCTIONS: dict[str, Callable[..., bool]] = {
    "evaluate": _evaluate,
    "evaluate_reliance": _reliance,
    "evaluate_robustness": _robustness,
    "fine_tune": _fine_tune,
}
