"""What an explanation costs, and a training step: in units of the network's own passes, and against peers.

Everything runs in one process on one thread, alternating with what it is compared with, and the median of the rounds'
ratios is printed, so that a busy machine blurs the numbers without favoring one side. On a CPU processor time is
counted. Memory is the largest sum of live tensors that the profiler sees during one call. Exit code 1 when a limit is
missed by more than 3 %, the noise. Needs the extra ``reference``.

    python benchmarks/cost/explanations.py
"""

import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from passes import CLASSES, LAYER, STEPS, Step, Workload, feature_space
from PIL import Image
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from sibx import GradCAM, IntegratedGradients, Saliency, SIBAttribution, SIBConfig, build_model
from sibx.attribution import LIME, METHODS, AblationCAM, Chefer, KernelSHAP, LeGrad, ScoreCAM, explain_many
from sibx.datasets import spread
from sibx.images import IMAGENET, resize_and_center_crop, to_pixels

NOISE = 1.03  # two measurements of the same code differ by so much on a busy machine


@dataclass(frozen=True)
class Case:
    """A run, what it is compared with (times ``units``), and the largest ratio allowed (None: only shown)."""

    title: str
    run: Callable[[], object]
    against: Callable[[], object]
    units: float = 1
    limit: float | None = None
    rounds: int | None = None


def cases(device: str) -> list[Case]:
    """Everything that is timed."""
    w, one = Workload(device, 8), Workload(device, 1)
    gradcam = w.explain(GradCAM(w.model, LAYER))
    vit = Workload(device, 8, network="timm/vit_tiny_patch16_224", layer="norm")
    attentive = [name for name, spec in METHODS.items() if spec.kind == "attention"]
    channels = 512
    score, few = ScoreCAM(one.model, LAYER), ScoreCAM(one.model, LAYER, top_channels=channels // 8)
    integrated = w.explain(IntegratedGradients(w.model, steps=STEPS))
    segments: dict[str, Any] = {"samples": 16 * len(w.images), "images_per_pass": len(w.images)}
    lime, shap = (one.explain(method(one.model, **segments)) for method in (LIME, KernelSHAP))
    return [
        Case("SIBAttribution / forward + backward", w.explain(SIBAttribution(w.model)), w.forward_backward, 1, 1.10),
        Case("Saliency / captum's", w.explain(Saliency(w.model)), w.captum_saliency),
        Case("Grad-CAM / captum's LayerGradCam, upsampled", gradcam, w.captum_gradcam, 1, 1.0),
        Case("Grad-CAM / forward", gradcam, w.forward),
        Case("grad-cam's Grad-CAM / forward", w.peer_gradcam, w.forward),
        Case("five gradient CAMs / one", w.five, gradcam, 1, 1.15),
        Case("IG / steps x (forward + backward)", integrated, w.forward_backward, STEPS, 1.0, 5),
        Case(
            "captum's IG / steps x (forward + backward)",
            w.captum_integrated_gradients,
            w.forward_backward,
            STEPS,
            None,
            5,
        ),
        Case("LIME / its forward passes of 8 images", lime, w.forward, 16, 1.1, 3),
        Case("kernel SHAP / its forward passes of 8 images", shap, w.forward, 16, 1.1, 3),
        Case("Score-CAM / channels x forward", one.explain(score), one.forward, channels, 1.0, 3),
        Case("Score-CAM, an eighth of the channels / all", one.explain(few), one.explain(score), 1, 1 / 8 * 1.1, 3),
        Case(
            "Ablation-CAM / channels x forward",
            one.explain(AblationCAM(one.model, LAYER)),
            one.forward,
            channels,
            1.0,
            3,
        ),
        Case("Chefer / forward + backward, ViT-Tiny", vit.explain(Chefer(vit.model)), vit.forward_backward, 1, 1.3),
        Case("LeGrad / forward + backward, ViT-Tiny", vit.explain(LeGrad(vit.model)), vit.forward_backward),
        Case(
            "all attention methods together / forward + backward, ViT-Tiny",
            lambda: explain_many(vit.model, vit.images, vit.target, attentive),
            vit.forward_backward,
        ),
    ]


def training_cases(device: str) -> list[Case]:
    """Every training step that is timed, and the self masks' evidence."""
    work, step = Workload(device, 8), Step(device)
    published, features = step.sib(SIBConfig.published()), step.sib(feature_space())
    return [
        Case("S-IB step in input space / CE step", published, step.cross_entropy, 1, 3.0, 5),
        Case("S-IB step in input space / its formulas written plainly", published, step.plain, 1, 0.90, 5),
        Case("S-IB step in feature space / CE step", features, step.cross_entropy, 1, 1.35, 5),
        Case("evidence of 1,000 classes / forward", work.evidence, work.forward, 1, None, 3),
        Case("the same by 32 cotangents / forward", lambda: work.evidence(32), work.forward, 1, None, 3),
    ]


def ratio(case: Case, rounds: int, device: str) -> tuple[float, float]:
    """The median of the rounds' ratios, and of the run's seconds."""
    ratios, seconds = [], []
    for round_ in range(1 + (case.rounds or rounds)):
        mine, theirs = (_seconds(run, device) for run in (case.run, case.against))
        if round_:  # the first round warms up
            ratios.append(mine / (theirs * case.units))
            seconds.append(mine)
    return statistics.median(ratios), statistics.median(seconds)


def _seconds(run: Callable[[], object], device: str) -> float:
    clock = time.perf_counter if device == "cuda" else time.process_time
    start = clock()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


PEAKS: dict[str, Callable[[Workload], Callable[[], object]]] = {
    "forward + backward": lambda w: w.forward_backward,
    "SIBAttribution": lambda w: w.explain(SIBAttribution(w.model)),
    "captum Saliency": lambda w: w.captum_saliency,
    "Grad-CAM": lambda w: w.explain(GradCAM(w.model, LAYER)),
    "five gradient CAMs": lambda w: w.five,
    "captum LayerGradCam": lambda w: w.captum_gradcam,
    "grad-cam's Grad-CAM": lambda w: w.peer_gradcam,
    "IG": lambda w: w.explain(IntegratedGradients(w.model, steps=STEPS)),
    "captum IG, the same points per pass": lambda w: w.captum_integrated_gradients,
}
STEP_PEAKS: dict[str, Callable[[Step], Callable[[], object]]] = {
    "CE step": lambda s: s.cross_entropy,
    "S-IB step in feature space": lambda s: s.sib(feature_space()),
    "S-IB step in input space": lambda s: s.sib(SIBConfig.published()),
}
# ours -> what its peak is compared with, and the largest ratio allowed; 2 % for small tensors, 5 % for four more maps
LIMITS = {
    "SIBAttribution": ("captum Saliency", 1.02),
    "Grad-CAM": ("captum LayerGradCam", 1.02),
    "five gradient CAMs": ("captum LayerGradCam", 1.05),
    "IG": ("captum IG, the same points per pass", 1.02),
    "S-IB step in feature space": ("CE step", 1.35),
}


def peak_memory(run: Callable[[], object], device: str) -> float:
    """MiB of tensors that are alive together at most during one call, beyond those before it."""
    run()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities, profile_memory=True) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    on_device = [e for e in events if e["name"] == "[memory]" and e["args"]["Device Type"] == int(device == "cuda")]
    changes = [e["args"]["Bytes"] for e in sorted(on_device, key=lambda e: e["ts"])]
    return max(itertools.accumulate(changes)) / 2**20


def main(rounds: int = 9, device: str = "cpu", photographs: str | None = None, weights: str | None = None) -> int:
    """Print all ratios and peaks.

    Args:
        rounds: timed rounds of every comparison.
        device: cpu or cuda.
        photographs: folder of JPEGs; with ``weights``, the agreement of Score-CAM's ``top_channels`` is printed.
        weights: ImageNet weights of MobileNetV2.
    """
    torch.set_num_threads(1)
    missed = 0
    versions = ", ".join(f"{name} {version(name)}" for name in ("captum", "grad-cam"))
    print(f"resnet18 where none is named, 224 px, batch 8, one thread; {versions}")
    print("| cost | ratio | limit | seconds |\n|---|---|---|---|")
    for case in cases(device) + training_cases(device):
        value, seconds = ratio(case, rounds, device)
        is_missed = case.limit is not None and value > NOISE * case.limit
        missed += is_missed
        limit = "" if case.limit is None else f"{case.limit:.3g}{' MISSED' * is_missed}"
        print(f"| {case.title} | {value:.3f} | {limit} | {seconds:.3f} |", flush=True)
    print("\n| peak memory of one call | MiB | limit |\n|---|---|---|")
    work, step = Workload(device, 8), Step(device)
    calls = {name: make(work) for name, make in PEAKS.items()} | {n: make(step) for n, make in STEP_PEAKS.items()}
    peaks = {name: peak_memory(call, device) for name, call in calls.items()}
    for name, peak in peaks.items():
        other, factor = LIMITS.get(name, (name, 1))
        missed += peak > factor * peaks[other]
        limit = "" if other == name else f"{factor * peaks[other]:.0f}"
        print(f"| {name} | {peak:.0f} | {limit}{' MISSED' * (peak > factor * peaks[other])} |", flush=True)
    if photographs and weights:
        _print_agreement(photographs, weights)
    return int(missed > 0)


def _photographs(folder: str, count: int) -> Tensor:
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".jpeg", ".jpg"))
    chosen = [files[i] for i in spread(len(files), count)]
    return IMAGENET(torch.stack([resize_and_center_crop(to_pixels(Image.open(f)), 224) for f in chosen]))


def _print_agreement(folder: str, weights: str, count: int = 8) -> None:
    """Rank correlation of Score-CAM with an eighth of the channels and with all, mean over photographs."""
    images, model = _photographs(folder, count), build_model("mobilenet_v2", CLASSES, weights).eval()
    target, channels = model(images).argmax(1), 1280
    ranks = []
    for top_channels in (channels, channels // 8):
        method = ScoreCAM(model, upsample=False, top_channels=top_channels)
        rank = method.attribute(images, target=target).flatten(1).argsort(1).argsort(1).double()
        ranks.append(rank - rank.mean(1, keepdim=True))
    value = float(F.cosine_similarity(*ranks).mean())
    print(f"\nScore-CAM with {channels // 8} of MobileNetV2's {channels} channels against all, {count} photographs:")
    print(f"mean rank correlation {value:.3f}")


if __name__ == "__main__":
    sys.exit(auto_cli(main, as_positional=False))
