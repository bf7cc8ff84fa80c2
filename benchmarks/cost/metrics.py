"""What the scores cost, beside the peers that compute the same: same maps, same masks, same model, one process.

Speed is processor time on one thread, the median of alternating rounds; an absolute figure depends on the machine, the
ratio to the peer, or to a score written plainly, hardly does. Forward passes are counted. A peer that is not installed
ends the script (extra ``reference``); exit code 1 when a limit is missed.

    python benchmarks/cost/metrics.py
"""

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import quantus
import torch
from jsonargparse import auto_cli
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from stand_ins import CLASSES, Counted, Free, Given, draw_maps, medians
from torch import Tensor, nn
from torchcam.metrics import DeletionInsertionMetric
from torchvision.models import resnet18

from sibx import metrics
from sibx.images import IMAGENET

SIDE = 224
STEPS, SHARES = 28, 9  # of a perturbation curve, and of ROAD
MANY, FEW = 64, 8  # maps per round: ours, the peers'
IMAGES = 256, 2048  # that evaluate scores
LOCALIZATION = [spec for spec in metrics.METRICS.values() if spec.needs_masks]


@dataclass(frozen=True)
class Rate:
    """A localization score: ours, a peer's, and the smallest ratio of its maps per second to those of PLAIN."""

    name: str
    ours: Callable[[Tensor, Tensor], object]
    peer: Callable[..., Any] | None
    limit: float


RATES = (
    Rate("foreground focus", metrics.foreground_focus, quantus.RelevanceMassAccuracy, 0.35),
    Rate("background suppression", metrics.background_suppression, None, 0.35),
    Rate("pointing game", metrics.pointing_game, quantus.PointingGame, 0.35),
    Rate("relevance rank", metrics.relevance_rank, quantus.RelevanceRankAccuracy, 0.04),
    Rate("top-k intersection", metrics.topk_intersection, quantus.TopKIntersection, 0.04),
    Rate("average precision", metrics.average_precision, None, 0.05),
    Rate("ROC-AUC", metrics.roc_auc, quantus.AUC, 0.05),
)
PLAIN = "(a * s).sum() / a.sum()"


def plain(maps: Tensor, masks: Tensor) -> Tensor:
    """PLAIN of every map, in single precision and without any check."""
    return (maps * masks).sum((1, 2, 3)) / maps.sum((1, 2, 3))


def main(rounds: int = 5) -> int:
    """Print all tables.

    Args:
        rounds: timed rounds of every comparison.
    """
    warnings.simplefilter("ignore")  # of the peers
    torch.set_num_threads(1)
    torch.manual_seed(0)
    peers = ", ".join(f"{name} {version(name)}" for name in ("quantus", "torchcam", "grad-cam"))
    print(f"{SIDE} px, one thread; {peers}")
    return int(sum((localization(rounds), curves(rounds), removal(rounds), memory())) > 0)


def localization(rounds: int) -> int:
    """Maps per second of every localization score; returns the number of limits missed."""
    maps, masks = draw_maps(MANY, SIDE)
    scores = [plain, *(rate.ours for rate in RATES)]
    plainly, *rates = [MANY / s for s in medians([partial(score, maps, masks) for score in scores], rounds)]
    (together,) = medians([partial(all_of_the_table, maps, masks)], rounds)
    images, labels = np.zeros((FEW, 3, SIDE, SIDE), np.float32), np.zeros(FEW, int)
    few = {"a_batch": maps[:FEW].numpy(), "s_batch": masks[:FEW].numpy(), "device": "cpu"}
    peers = {
        rate.name: partial(rate.peer(disable_warnings=True, display_progressbar=False), Free(), images, labels, **few)
        for rate in RATES
        if rate.peer
    }
    theirs = {name: FEW / s for name, s in zip(peers, medians(list(peers.values()), rounds), strict=True)}
    print("\n| maps per second | sibx | of the plain form | limit | quantus | ratio |\n|---|---|---|---|---|---|")
    print(f"| plainly, {PLAIN} | {plainly:.0f} | 1 | | | |")
    missed = 0
    for rate, ours in zip(RATES, rates, strict=True):
        bad = ours < rate.limit * plainly
        missed += bad
        peer = theirs.get(rate.name)
        cells = f"{peer:.0f} | {ours / peer:.0f}" if peer else " | "
        print(f"| {rate.name} | {ours:.0f} | {ours / plainly:.2g} | {rate.limit}{' MISSED' * bad} | {cells} |")
    every, shown = f"all {len(LOCALIZATION)} of the table together", MANY / together
    print(f"| {every} | {shown:.0f} | {shown / plainly:.2g} | | | |", flush=True)
    return missed


def all_of_the_table(maps: Tensor, masks: Tensor) -> list[Tensor]:
    """Every localization score of METRICS, as ``evaluate`` asks for them."""
    explained = metrics.Explained(
        heatmaps=maps,
        masks=masks,
        undefined=torch.zeros_like(masks),
        images=maps,
        targets=torch.zeros(len(maps), dtype=torch.long),
        model=Free(),
        normalization=IMAGENET,
    )
    return [spec.score(explained) for spec in LOCALIZATION]


def curves(rounds: int) -> int:
    """Forward passes and own cost of deletion and insertion; returns the number of limits missed."""
    maps, _ = draw_maps(FEW, SIDE)
    images, targets = torch.randn(FEW, 3, SIDE, SIDE), torch.zeros(FEW, dtype=torch.long)

    def deletion_and_insertion(model: nn.Module) -> object:
        stream = metrics.Perturbations(model, images, maps, targets)
        stream.measure(("deletion", "mean"), ("insertion", "blur"))
        return stream.deletion(), stream.insertion()

    def from_two_curves(model: nn.Module) -> object:
        stream = metrics.Perturbations(model, images, maps, targets)
        stream.measure(("deletion", "mean"), ("insertion", "mean"))  # MoRF, and LeRF read backward
        morf, lerf, kept = stream.deletion(), stream.lerf(), stream.insertion("mean")
        normalized = metrics.normalized_deletion(morf), metrics.normalized_insertion(kept)
        difference = metrics.insertion_minus_deletion(kept, morf)
        return metrics.srg(lerf, morf), metrics.aopc(morf), normalized, difference

    def torchcams(model: nn.Module) -> object:
        metric = DeletionInsertionMetric(Given(maps, model), lambda logits: logits.softmax(1), steps=STEPS)
        metric.update(images, 0)
        return metric.summary()

    both = "deletion + insertion"
    names = (both, f"{both} on one baseline, SRG, AOPC, normalized", f"torchcam's {both}")
    counted = {name: Counted(Free()) for name in names}
    runs = (deletion_and_insertion, from_two_curves, torchcams)
    for run, model in zip(runs, counted.values(), strict=True):
        run(model)
    limits = (2 * STEPS + 1, 2 * STEPS, None)  # with the ends of two baselines, or of one
    print("\n| curves of one map | images through the model | limit | ms per image beside the model | limit |")
    print("|---|---|---|---|---|")
    missed = 0
    seconds = medians([partial(run, Free()) for run in runs], rounds)
    for (name, model), limit, second in zip(counted.items(), limits, seconds, strict=True):
        passes, cost = model.images / FEW, 1000 * second / model.images
        bad = (limit is not None and passes > limit, limit is not None and cost > 0.3)
        missed += sum(bad)
        cells = ("", "") if limit is None else (f"{limit}{' MISSED' * bad[0]}", f"0.3{' MISSED' * bad[1]}")
        print(f"| {name} | {passes:.0f} | {cells[0]} | {cost:.2f} | {cells[1]} |", flush=True)
    return missed


def removal(rounds: int) -> int:
    """Cost of ROAD in units of the forward passes it needs; returns the number of limits missed."""
    maps, _ = draw_maps(1, SIDE)
    images, targets = torch.randn(1, 3, SIDE, SIDE), torch.zeros(1, dtype=torch.long)
    model, frames = resnet18(num_classes=CLASSES).eval(), images.repeat(2 * SHARES, 1, 1, 1)

    def ours() -> object:
        return metrics.road(metrics.removal(model, images, maps, targets))

    def grad_cams() -> object:
        return ROADCombined()(images, maps.squeeze(1).numpy(), [ClassifierOutputSoftmaxTarget(0)], model)

    with torch.inference_mode():
        forwards, *seconds = medians([lambda: model(frames), ours, grad_cams], rounds)
    print(f"\n| ROAD of one map in units of its {len(frames)} forwards of resnet18 | ratio | limit |\n|---|---|---|")
    missed = 0
    for name, limit, second in zip(("sibx", "grad-cam"), (1.3, None), seconds, strict=True):
        bad = limit is not None and second > limit * forwards
        missed += bad
        print(f"| {name} | {second / forwards:.2f} | {limit or ''}{' MISSED' * bad} |", flush=True)
    return missed


def memory() -> int:
    """Peak of a process that evaluates few and many images; 1 if it grows by more than the noise, else 0."""
    few, many = IMAGES
    with tempfile.TemporaryDirectory() as folder:
        first, second = peak_memory(few, f"{folder}/few"), peak_memory(many, f"{folder}/many")
    kept, limit = peak_memory(many, None), 1.01 * first
    print("\n| peak memory of evaluate, MiB of the process | images | MiB | limit |\n|---|---|---|---|")
    print(f"| results written batch by batch | {few} | {first} | |")
    print(f"| results written batch by batch | {many} | {second} | {limit:.0f}{' MISSED' * (second > limit)} |")
    print(f"| results kept in memory | {many} | {kept} | |", flush=True)
    return int(second > limit)


def peak_memory(images: int, out_dir: str | None) -> int:
    """What evaluation_peak.py prints."""
    command = [sys.executable, str(Path(__file__).with_name("evaluation_peak.py")), "--images", str(images)]
    folder = [] if out_dir is None else ["--out_dir", out_dir]
    return int(subprocess.run([*command, *folder], stdout=subprocess.PIPE, text=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(auto_cli(main, as_positional=False))
