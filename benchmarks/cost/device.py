"""What sibx does on a GPU: agreement with the CPU, cost of training steps, overhead of ``evaluate``, and waits.

One call of at most eight minutes. Networks have random weights, so nothing is downloaded. Every row is measured by
itself: one that fails says why, the others go on, and the exit code is 1. The JSON file is written again after every
row, so a call that is cut off keeps what it has. Only the standard library and sibx's own dependencies are needed, and
timm for the vision transformer, which is left out without it.

    python benchmarks/cost/device.py
    python benchmarks/cost/device.py --rehearse --device cpu
"""

import argparse
import gc
import importlib.util
import json
import platform
import statistics
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sibx
from sibx import METHODS, IntegratedGradients, SIBConfig, SIBLoss, build_dataset, build_model, evaluate
from sibx.attribution import MethodSpec, explain_many
from sibx.datasets import InMemoryDataset, MaskedDataset
from sibx.models import find_cam_layer

Row = dict[str, Any]
CE, FEATURES, INPUT = OBJECTIVES = ("CE", "S-IB, feature space", "S-IB, input space")
PRECISIONS = ("float32", "TF32", "bfloat16")
COMPARED = ("sib", "vjp", "saliency", "integrated_gradients", "gradcam")
EXPLAINED = ("gradcam", "sib", "saliency")
LOCALIZATION = ("foreground_focus", "background_suppression", "pointing_game")
CURVES = ("deletion", "insertion")
FRAMES = 57  # images that the two curves of one map need
FEW_STEPS = 8  # of Integrated Gradients: rounding is the same as with more, and the CPU computes in float64, too
SEEN = 4  # images that set BatchNorm's statistics
SMALLEST = 4  # batch of a training step that does not fit into the memory
SHOWN = 5  # places of waits in the table; the file has all
WAIT = "synchronizing CUDA operation"  # what torch's warning of a wait says
PACKAGES = ("sibx", "torch", "torchvision", "timm", "captum", "numpy", "pandas")


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


FULL = Sizes({"resnet50": 224, "timm/vit_small_patch16_224": 224}, 1000, 4, 64, 10, 3, 256, 32, 32)
REHEARSAL = Sizes({"tiny_cnn": 64, "timm/test_vit": 160}, 10, 2, 2, 1, 1, 4, 1, 2)


@dataclass(frozen=True)
class Case:
    """A part of a table: what all its rows say, and what measures the rest of them."""

    labels: Row
    measure: Callable[[], Iterable[Row]]


@dataclass(frozen=True)
class Section:
    """A table: title, columns (the last one, for remarks, is added), and its cases for given sizes and a device.

    ``cases`` computes nothing itself, so that whatever fails fails in a case.
    """

    title: str
    columns: tuple[str, ...]
    cases: Callable[[Sizes, str], Iterator[Case]]


class Workload:
    """One network on one device in one type, and a batch of images with labels and masks; the same on every device."""

    def __init__(self, sizes: Sizes, name: str, batch: int, device: str = "cpu", dtype: torch.dtype = torch.float32):
        side = sizes.networks[name]
        torch.manual_seed(0)
        model, images = build_model(name, sizes.classes), torch.randn(batch, 3, side, side)
        set_statistics(model, images[:SEEN])
        self.name, self.layer = name, find_cam_layer(model, side)
        self.model, self.images = model.to(device, dtype), images.to(device, dtype)
        self.labels = torch.arange(batch, device=device) % sizes.classes
        self.masks = torch.zeros(batch, 1, side, side, dtype=torch.bool, device=device)
        self.masks[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = True

    def sib_loss(self, space: str) -> Callable[[], Any]:
        """The S-IB loss of the batch, in feature or in input space."""
        features = SIBConfig.recommended("given", layers={self.layer: 1.0})
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
        with torch.autocast(self.work.images.device.type, torch.bfloat16, enabled=self.half):
            loss = self._loss()
        loss.backward(inputs=self.parameters)
        self.optimizer.step()

    def _loss(self) -> Tensor:
        if self.sib is None:
            return F.cross_entropy(self.model(self.work.images), self.work.labels)
        total: Tensor = self.sib().total
        return total


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


def available(sizes: Sizes) -> list[str]:
    """The networks that can be built here."""
    has_timm = importlib.util.find_spec("timm") is not None
    return [name for name in sizes.networks if has_timm or not name.startswith("timm/")]


def agreement(sizes: Sizes, device: str) -> Iterator[Case]:
    """Terms, gradients and maps, on both in float32 and float64.

    How far float32 is from float64 on the CPU says how far the device may be: percents for gradients of a network with
    ReLUs, where rounding switches units on and off. That both compute the same is seen in float64.
    """
    for name in available(sizes):
        where = tuple(product((device, "cpu"), (torch.float32, torch.float64)))
        twins = cache(partial(_twins, sizes, name, where))
        for space in (FEATURES, INPUT):
            yield Case({"network": name, "what": space}, partial(_compare, twins, partial(_terms, space=space), space))
        for method in COMPARED:
            yield Case({"network": name, "what": method}, partial(_compare, twins, partial(_map, method=method)))


def _twins(sizes: Sizes, name: str, where: Iterable[tuple[str, torch.dtype]]) -> list[Workload]:
    return [Workload(sizes, name, sizes.compared, *place) for place in where]


def _compare(
    twins: Callable[[], list[Workload]], compute: Callable[[Workload], dict[str, Tensor]], prefix: str = ""
) -> list[Row]:
    with tf32(False):
        device, device_exact, cpu, exact = (compute(work) for work in twins())
    return [
        {
            "what": f"{prefix}: {name}" if prefix else name,
            "device - CPU": _distance(device[name], cpu[name], value),
            "device - CPU64": _distance(device[name], value, value),
            "CPU - CPU64": _distance(cpu[name], value, value),
            "device64 - CPU64": _distance(device_exact[name], value, value),
        }
        for name, value in exact.items()
    ]


def _distance(one: Tensor, other: Tensor, unit: Tensor) -> float:
    """L2 norm of the difference, in units of the norm of ``unit``."""
    a, b, c = (t.detach().cpu().double() for t in (one, other, unit))
    return float((a - b).norm() / c.norm())


def _terms(work: Workload, space: str) -> dict[str, Tensor]:
    """Every term of the loss, and the gradient of the total over all parameters."""
    work.model.train()
    terms = work.sib_loss(space)()
    gradients = torch.autograd.grad(terms.total, list(work.model.parameters()), materialize_grads=True)
    named = {"cross-entropy": terms.cross_entropy, "foreground": terms.foreground, "background": terms.background}
    return {**named, "gradient": torch.cat([g.flatten() for g in gradients])}


def _map(work: Workload, method: str) -> dict[str, Tensor]:
    spec = METHODS[method]
    if method == "integrated_gradients":
        spec = replace(spec, build=lambda model, _: IntegratedGradients(model, steps=FEW_STEPS))
    return work.explain(spec)


def training(sizes: Sizes, device: str) -> Iterator[Case]:
    """Training steps in every precision, beside the cross-entropy step of the same precision."""
    for name, precision in product(available(sizes), PRECISIONS):
        plain: Row = {}  # of the cross-entropy step, which comes first
        for objective in OBJECTIVES:
            labels = {"network": name, "precision": precision, "step": objective}
            yield Case(labels, partial(_time_step, sizes, device, labels, plain))


def _time_step(sizes: Sizes, device: str, labels: Row, plain: Row) -> list[Row]:
    batch, note = sizes.batch, ""
    while True:
        try:
            seconds, peak = _one_step(sizes, device, labels, batch)
            break
        except torch.cuda.OutOfMemoryError:
            if batch // 2 < SMALLEST:
                raise
            note = f"{batch} images do not fit into the memory"
        release(device)  # only here the exception, which holds the tensors, is gone
        batch //= 2
    row = {"batch": batch, "images/s": batch / seconds, "peak GiB": peak, "note": note}
    if labels["step"] == CE:
        plain.update(row)
    return [row | _ratios(row, plain)]


def _one_step(sizes: Sizes, device: str, labels: Row, batch: int) -> tuple[float, float | None]:
    step = Step(Workload(sizes, labels["network"], batch, device), labels["step"], labels["precision"])
    with tf32(labels["precision"] == "TF32"):
        return timed(step, device, sizes.rounds, warm_up=min(3, sizes.rounds))


def _ratios(row: Row, plain: Row) -> Row:
    """Time per image and peak as multiples of the cross-entropy step's, where both are known for one batch size."""
    if not plain:
        return {}
    same = plain["batch"] == row["batch"] and row["peak GiB"] is not None
    return {
        "time / CE": plain["images/s"] / row["images/s"],
        "peak / CE": row["peak GiB"] / plain["peak GiB"] if same else None,
    }


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


def overhead(sizes: Sizes, device: str) -> Iterator[Case]:
    """What ``evaluate`` takes, against the passes alone; in torch's own precision."""
    evaluation = cache(partial(Evaluation, sizes, device))
    yield Case({"what": "drawing the images, on the CPU"}, partial(_time_drawing, evaluation))
    for title, kind in (("images in memory", "kept"), ("images drawn as they come", "drawn")):
        labels = {"what": f"{len(LOCALIZATION)} localization metrics, {title}"}
        yield Case(labels, partial(_time_evaluation, evaluation, kind, LOCALIZATION))
    labels = {"what": "deletion and insertion, images in memory"}
    yield Case(labels, partial(_time_evaluation, evaluation, "some", CURVES))


def _time_drawing(evaluation: Callable[[], Evaluation]) -> list[Row]:
    data = evaluation().drawn
    seconds, _ = timed(lambda: [data[i] for i in range(len(data))], "cpu", evaluation().rounds)
    return [{"images": len(data), "alone, images/s": len(data) / seconds}]


def _time_evaluation(evaluation: Callable[[], Evaluation], kind: str, metrics: Sequence[str]) -> list[Row]:
    work = evaluation()
    data, count = getattr(work, kind), len(getattr(work, kind))
    batches, frames = work.on_device(work.some if kind == "some" else work.kept), FRAMES if metrics == CURVES else 0
    alone, _ = timed(lambda: work.passes(batches, frames), work.device, work.rounds)
    whole, _ = timed(lambda: work(data, metrics), work.device, work.rounds)
    rates = {"alone, images/s": count / alone, "evaluate, images/s": count / whole}
    return [{"images": count, **rates, "time / alone": whole / alone}]


def waiting(sizes: Sizes, device: str) -> Iterator[Case]:
    """Places where the program waits for the device."""
    for name in available(sizes):
        work = cache(partial(Workload, sizes, name, sizes.at_once, device))
        for objective in OBJECTIVES:
            yield Case({"network": name, "call": f"{objective} step"}, partial(_count_in_step, work, objective))
        for method in EXPLAINED:
            yield Case({"network": name, "call": METHODS[method].title}, partial(_count_in_method, work, method))
    evaluation = cache(partial(Evaluation, sizes, device))
    labels = {"network": next(iter(sizes.networks)), "call": "evaluate, one more batch"}
    yield Case(labels, partial(_count_in_evaluation, evaluation))


def _count_in_step(work: Callable[[], Workload], objective: str) -> list[Row]:
    return [_waits(count_waits(Step(work(), objective), _device_of(work())), _device_of(work()))]


def _count_in_method(work: Callable[[], Workload], method: str) -> list[Row]:
    return [_waits(count_waits(lambda: work().explain(method), _device_of(work())), _device_of(work()))]


def _count_in_evaluation(evaluation: Callable[[], Evaluation]) -> list[Row]:
    """Two batches minus one: what an evaluation does once does not count."""
    work = evaluation()
    one, two = (count_waits(partial(work, work.batches(n)), work.device) for n in (1, 2))
    return [_waits(two - one, work.device)]


def _device_of(work: Workload) -> str:
    return work.images.device.type


def _waits(places: Counter[str], device: str) -> Row:
    if device != "cuda":
        return {"waits": None, "where": None, "all places": None}
    shown = ", ".join(f"{place} x {n}" for place, n in places.most_common(SHOWN))
    return {"waits": places.total(), "where": shown, "all places": dict(places.most_common())}


def count_waits(run: Callable[[], object], device: str) -> Counter[str]:
    """Run once to warm up, then once with torch's warnings of waits on: place in the sources -> number of waits.

    A wait is counted where the innermost function of sibx is at that moment, outside sibx where torch warns. Torch
    knows of waits for a number or an index and of copies between CPU and device, not of all there are.
    """
    run()
    places: Counter[str] = Counter()
    mode: Callable[[str], object] = torch.cuda.set_sync_debug_mode if device == "cuda" else lambda _: None
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def note(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if WAIT in str(message):
                places[_place(filename, lineno)] += 1
            else:
                usual(message, category, filename, lineno, file, line)

        mode("warn")
        warnings.simplefilter("always")
        warnings.showwarning = note
        try:
            run()
        finally:
            mode("default")
    return places


def _place(filename: str, line: int) -> str:
    package = Path(sibx.__file__).parent
    for frame in reversed(traceback.extract_stack()):
        if package in Path(frame.filename).parents:
            return f"{Path(frame.filename).relative_to(package.parent).as_posix()}:{frame.lineno}"
    return f"{Path(filename).name}:{line}"


SECTIONS = (
    Section(
        "Agreement with the CPU: relative L2 differences in float32 and, marked 64, in float64",
        ("network", "what", "device - CPU", "device - CPU64", "CPU - CPU64", "device64 - CPU64"),
        agreement,
    ),
    Section(
        "Training steps",
        ("network", "precision", "step", "batch", "images/s", "time / CE", "peak GiB", "peak / CE"),
        training,
    ),
    Section(
        f"evaluate of {', '.join(EXPLAINED)}, against their passes alone",
        ("what", "images", "alone, images/s", "evaluate, images/s", "time / alone"),
        overhead,
    ),
    Section("Waits for the device", ("network", "call", "waits", "where"), waiting),
)


class Report:
    """Prints rows as they come, and keeps all of them in a file.

    Attributes:
        failed: whether any row has an error.
    """

    def __init__(self, out: Path, about: Row, deadline: float):
        self.out, self.deadline, self.failed = out, deadline, False
        self.content: Row = {**about, "sections": {}}
        out.parent.mkdir(parents=True, exist_ok=True)

    def fill(self, section: Section, sizes: Sizes, device: str) -> None:
        """Measure one section."""
        start, kept = time.monotonic(), list[Row]()
        entry = self.content["sections"][section.title] = {"seconds": 0.0, "rows": kept}
        headings = (*section.columns, "note")
        print(f"\n{section.title}\n\n| {' | '.join(headings)} |\n|{'---|' * len(headings)}", flush=True)
        for case in section.cases(sizes, device):
            for row in self._measure(case, device):
                kept.append(row)
                print(f"| {' | '.join(shown(row.get(h)) for h in headings)} |", flush=True)
            entry["seconds"] = round(time.monotonic() - start, 1)
            self._save()
        print(f"\n{entry['seconds']:.0f} seconds", flush=True)

    def _measure(self, case: Case, device: str) -> list[Row]:
        if time.monotonic() > self.deadline:
            return [case.labels | {"note": "skipped, the time is up"}]
        try:
            return [case.labels | row for row in case.measure()]
        except Exception as error:  # whatever it is, the other rows go on
            self.failed = True
            traceback.print_exc()
            return [case.labels | {"note": f"FAILED: {type(error).__name__}: {error}"}]
        finally:
            release(device)

    def _save(self) -> None:
        """Write the file; it is complete at any time."""
        new = self.out.with_suffix(".tmp")
        new.write_text(json.dumps(self.content, indent=1), encoding="utf-8")
        new.replace(self.out)


def shown(value: object) -> str:
    """The text of one cell."""
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return "" if value is None else str(value).replace("\n", " ").replace("|", "/")


def release(device: str) -> None:
    """Free what nobody holds any more."""
    gc.collect()
    if device == "cuda":
        with suppress(RuntimeError):  # after some errors the device does nothing any more, and says it again
            torch.cuda.empty_cache()


def describe(device: str) -> Row:
    """What was measured, with what, and when."""
    found: Row = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"device": name, "type": device, "threads": torch.get_num_threads(), "date": date, "versions": found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all sections; returns 1 if a row failed."""
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, one thread: whether all of it runs")
    parser.add_argument("--out", type=Path, default=Path("results/device.json"))
    parser.add_argument("--budget", type=float, default=420, help="seconds after which no further row is measured")
    options = parser.parse_args(arguments)
    if options.rehearse:
        torch.set_num_threads(1)
    sizes = REHEARSAL if options.rehearse else FULL
    about = describe(options.device) | {"rehearsal": options.rehearse, "sizes": asdict(sizes)}
    print(f"{about['device']}, {', '.join(f'{k} {v}' for k, v in about['versions'].items())}, {about['date']}")
    report = Report(options.out, about, start + options.budget)
    for section in SECTIONS:
        report.fill(section, sizes, options.device)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
