"""What is run and timed on a device: networks with a batch, training steps, evaluations."""

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from stand_ins import EVERY_TERM
from torch import Tensor, nn

from sibx import SIBConfig, SIBLoss, build_dataset, build_model, evaluate
from sibx.attribution import MethodSpec, explain_many
from sibx.datasets import InMemoryDataset, MaskedDataset
from sibx.models import find_cam_layer

CE, FEATURES, INPUT = OBJECTIVES = ("CE", "S-IB, feature space", "S-IB, input space")
EXPLAINED = ("gradcam", "sib", "saliency")
LOCALIZATION = ("foreground_focus", "background_suppression", "pointing_game")
SEEN = 4  # images that set BatchNorm's statistics


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        networks: name for ``build_model`` -> side of its images in pixels.
        classes: outputs of the networks.
        compared: images of the comparison with the CPU.
        batch: images of a training step.
        rounds: timed training steps.
        evaluations: timed evaluations.
        scored: images that ``evaluate`` scores, at least two batches.
        perturbed: images of which it takes deletion and insertion.
        at_once: its batch size.
    """

    networks: Mapping[str, int]
    classes: int
    compared: int
    batch: int
    rounds: int
    evaluations: int
    scored: int
    perturbed: int
    at_once: int

    def available(self) -> list[str]:
        """The networks that can be built here."""
        has_timm = importlib.util.find_spec("timm") is not None
        return [name for name in self.networks if has_timm or not name.startswith("timm/")]


class Workload:
    """One network on one device in one type, and a batch of images with labels and masks; the same on every device."""

    def __init__(self, sizes: Sizes, name: str, batch: int, device: str = "cpu", dtype: torch.dtype = torch.float32):
        side = sizes.networks[name]
        torch.manual_seed(0)
        model, images = build_model(name, sizes.classes), torch.randn(batch, 3, side, side)
        set_statistics(model, images[:SEEN])
        self.name, self.device, self.layer = name, device, find_cam_layer(model, side)
        self.model, self.images = model.to(device, dtype), images.to(device, dtype)
        self.labels = torch.arange(batch, device=device) % sizes.classes
        self.masks = torch.zeros(batch, 1, side, side, dtype=torch.bool, device=device)
        self.masks[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = True

    def sib_loss(self, space: str) -> Callable[[], Any]:
        """The S-IB loss of the batch, in feature or in input space."""
        features = replace(SIBConfig.recommended("given", layers={self.layer: 1.0}), **EVERY_TERM)
        loss = SIBLoss(features if space == FEATURES else SIBConfig.published())
        masks = self.masks if space == FEATURES else None
        return lambda: loss(self.model, self.images, self.labels, masks)

    def explain(self, *methods: str | MethodSpec) -> dict[str, Tensor]:
        """The maps of methods for the labels, in eval mode."""
        return explain_many(self.model.eval(), self.images, self.labels, methods, self.layer)


def set_statistics(model: nn.Module, images: Tensor) -> None:
    """Give BatchNorm the statistics of images: a network with random weights has logits of ordinary size then."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    usual = [m.momentum for m in layers]
    for layer in layers:
        layer.momentum = 1.0
    with torch.no_grad():
        model(images)
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum


class Step:
    """One training step: forward, loss, backward, and the optimizer (SGD, for a transformer AdamW)."""

    def __init__(self, work: Workload, objective: str, precision: str = "float32"):
        self.work, self.half = work, precision == "bfloat16"
        self.model = work.model.train()
        self.sib = None if objective == CE else work.sib_loss(objective)
        self.parameters = list(self.model.parameters())
        adamw = partial(torch.optim.AdamW, lr=1e-5)
        sgd = partial(torch.optim.SGD, lr=1e-5, momentum=0.9)
        self.optimizer = (adamw if work.name.startswith("timm/") else sgd)(self.parameters)

    def __call__(self) -> None:
        """Take the step."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.work.device, torch.bfloat16, enabled=self.half):
            loss = self._loss()
        loss.backward(inputs=self.parameters)
        self.optimizer.step()

    def _loss(self) -> Tensor:
        if self.sib is None:
            return F.cross_entropy(self.model(self.work.images), self.work.labels)
        total: Tensor = self.sib().total
        return total


class Evaluation:
    """A network, synthetic images that wait in memory, and the passes that explaining and perturbing them needs."""

    def __init__(self, sizes: Sizes, device: str):
        name = next(iter(sizes.networks))
        self.device, self.at_once, self.rounds = device, sizes.at_once, sizes.evaluations
        work = Workload(sizes, name, sizes.at_once, device)
        self.model, self.layer = work.model.eval(), work.layer
        self.drawn = build_dataset("synthetic", None, "test-id", sizes.networks[name], size=sizes.scored)
        self.kept = InMemoryDataset.load(self.drawn)
        self.some = InMemoryDataset.load(self.kept, range(sizes.perturbed))

    def __call__(self, data: MaskedDataset, metrics: Sequence[str] = LOCALIZATION) -> None:
        """Run ``evaluate``."""
        evaluate(
            self.model,
            data,
            methods=EXPLAINED,
            metrics=metrics,
            layer=self.layer,
            batch_size=self.at_once,
            device=self.device,
            progress=False,
        )

    def passes(self, batches: Sequence[Tensor], frames: int = 0) -> None:
        """Classify and explain batches that are on the device, and run the model so often again for every map."""
        for images in batches:
            with torch.inference_mode():
                target = self.model(images).argmax(1)
            explain_many(self.model, images, target.clone(), EXPLAINED, self.layer)
            with torch.inference_mode():
                for _ in range(frames * len(EXPLAINED)):
                    self.model(images)

    def on_device(self, data: InMemoryDataset) -> list[Tensor]:
        """The images in batches."""
        images = torch.stack([s.image for s in data.samples]).to(self.device)
        return list(images.split(self.at_once))

    def batches(self, count: int) -> InMemoryDataset:
        """The images of the first batches."""
        return InMemoryDataset.load(self.kept, range(count * self.at_once))


def timed(run: Callable[[], object], device: str, rounds: int, warm_up: int = 1) -> tuple[float, float | None]:
    """The median of the rounds in seconds, and the peak in GiB of all tensors alive (None on a CPU)."""
    for _ in range(warm_up):
        run()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Within the block, products of float32 are rounded to TF32 or not; torch's own default differs by operation."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    usual = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = enabled
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = usual
