"""What more processes gain: S-IB steps in one and in two processes, and an extrapolation to many.

Everything runs on this machine: gloo over the loopback, one thread per process, the same global batch for every number
of processes, and S-IB with every term on given masks. What the processes of a step exchange is recorded, and
timed again alone. The extrapolation's assumptions are printed with it. Seconds are wall time: let the machine be idle.

    python benchmarks/cost/scaling.py
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from exchanges import PARTS, PASSES, Exchange, Link, recorded, run_all
from jsonargparse import auto_cli
from stand_ins import EVERY_TERM
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from sibx import SIBConfig, SIBLoss, build_model

CLASSES = 1000
SHORT = 8  # bytes, of which each of two processes has a number
ASSUMPTIONS = """\
The rows marked "model" assume:
- the same global batch; compute splits perfectly, even the little that all processes repeat (HSIC of gathered rows);
- every process has a core of its own, and links as fast as this machine's loopback;
- N processes exchange b bytes in 2 (N - 1) passes of b / N by a ring all-reduce, in N - 1 passes of b / N (the rows of
  one process) by an all-gather, and in log2 N passes of b by a broadcast; a pass takes latency + bytes / bandwidth;
- latency and bandwidth are what a short and a long exchange between the two processes took: {links};
- nothing is exchanged while something is computed (DDP does overlap a part of its all-reduce)."""


@dataclass(frozen=True)
class Setting:
    """What is trained, how often each thing is timed, and the bytes of the exchange that measures the bandwidth."""

    model: str
    image_size: int
    batch_size: int
    rounds: int
    probe: int


@dataclass(frozen=True)
class Measured:
    """Seconds with one process and with two, and what the two exchange in a step.

    Attributes:
        steps: number of processes -> seconds of a step.
        compute: the same without any exchange: every process takes its part of the batch by itself.
        exchanges: those of one step.
        parts: key of PARTS -> seconds of its exchanges alone.
        links: key of PASSES -> the loopback, as that operation uses it.
    """

    steps: dict[int, float]
    compute: dict[int, float]
    exchanges: list[Exchange]
    parts: dict[str, float]
    links: dict[str, Link]


class Step:
    """One S-IB training step on a process's part of the batch, without the optimizer."""

    def __init__(self, setting: Setting, processes: int):
        torch.manual_seed(0)
        size, side = setting.batch_size // processes, setting.image_size
        self.network: nn.Module = build_model(setting.model, CLASSES).train()
        if dist.is_initialized():
            wrapped = DistributedDataParallel(self.network)
            wrapped.register_comm_hook(None, allreduce_hook)
            self.network = wrapped
        self.images, self.labels = torch.randn(size, 3, side, side), torch.arange(size)
        self.masks = torch.zeros(size, 1, side, side, dtype=torch.bool)
        self.masks[..., side // 4 : side // 2, side // 4 : side // 2] = True
        self.loss = SIBLoss(replace(SIBConfig.recommended("given"), **EVERY_TERM))

    def __call__(self) -> None:
        """Compute all gradients."""
        self.network.zero_grad(set_to_none=True)
        self.loss(self.network, self.images, self.labels, self.masks).total.backward()

    def exchanges(self) -> list[Exchange]:
        """What a step exchanges."""
        with recorded() as exchanges:
            self()
        buffers = sum(b.nbytes for b in self.network.buffers())
        return [*exchanges, Exchange("buffers", "broadcast", buffers)] if buffers else exchanges


def _seconds(run: Callable[[], object], rounds: int) -> float:
    """The median of the rounds; two more warm up (DDP lays its buckets out anew after the first step)."""
    seconds = []
    for round_ in range(rounds + 2):
        if dist.is_initialized():
            dist.barrier()
        start = time.perf_counter()
        run()
        if round_ > 1:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _link(operation: str, size: int, rounds: int) -> Link:
    """What one short and one long exchange say."""
    passes, share = PASSES[operation](2)
    short, long = (_seconds(Exchange("", operation, b).run, rounds) for b in (SHORT, size))
    return Link(short / passes, passes * share * (size - SHORT) / max(long - short, 1e-9))


def _measure_two(rank: int, setting: Setting, folder: Path) -> None:
    """What each of the two processes runs; the first one leaves the numbers."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2, timeout=timedelta(minutes=5)
    )
    step = Step(setting, 2)
    found: dict[str, Any] = {"step": _seconds(step, setting.rounds)}
    exchanges = step.exchanges()
    found["exchanges"] = [asdict(e) for e in exchanges]
    often = 5 * setting.rounds
    of_part = {part: [e for e in exchanges if e.part == part] for part in PARTS}
    found["parts"] = {part: _seconds(partial(run_all, own), often) for part, own in of_part.items()}
    found["links"] = {operation: asdict(_link(operation, setting.probe, often)) for operation in PASSES}
    dist.barrier()
    dist.destroy_process_group()
    found["compute"] = _seconds(Step(setting, 2), setting.rounds)
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


def measure(setting: Setting) -> Measured:
    """Time a step in one process and in two."""
    torch.set_num_threads(1)
    alone = _seconds(Step(setting, 1), setting.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spawn(_measure_two, (setting, folder), nprocs=2)
        found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    exchanges = [Exchange(**e) for e in found["exchanges"]]
    links = {operation: Link(**link) for operation, link in found["links"].items()}
    return Measured({1: alone, 2: found["step"]}, {1: alone, 2: found["compute"]}, exchanges, found["parts"], links)


def exchange_table(measured: Measured) -> str:
    """What two processes exchange in a step, as measured and by the model that extrapolates."""
    lines = ["| exchanged per step by 2 processes | calls | MB | seconds | model |", "|---|---|---|---|---|"]
    for part, title in PARTS.items():
        own = [e for e in measured.exchanges if e.part == part]
        model = sum(e.seconds(2, measured.links) for e in own)
        size = sum(e.size for e in own) / 1e6
        lines.append(f"| {title} | {len(own)} | {size:.3g} | {measured.parts[part]:.4f} | {model:.4f} |")
    return "\n".join(lines)


def step_table(measured: Measured, processes: Iterable[int] = (2, 4, 8, 16)) -> str:
    """Seconds per step, as measured and by the model."""
    alone = measured.steps[1]

    def line(n: int, how: str, compute: float, parts: Iterable[float], step: float) -> str:
        shown = " | ".join(f"{s:.4f}" for s in parts)
        return f"| {n} | {how} | {compute:.3f} | {shown} | {step:.3f} | {alone / step:.2f} | {alone / step / n:.2f} |"

    lines = [
        f"| processes | | compute | {' | '.join(PARTS)} | step | speed-up | efficiency |",
        "|---|---|---|" + "---|" * len(PARTS) + "---|---|---|",
        line(1, "measured", alone, [0.0] * len(PARTS), alone),
        line(2, "measured", measured.compute[2], measured.parts.values(), measured.steps[2]),
    ]
    for n in processes:
        parts = [sum(e.seconds(n, measured.links) for e in measured.exchanges if e.part == part) for part in PARTS]
        lines.append(line(n, "model", alone / n, parts, alone / n + sum(parts)))
    return "\n".join(lines)


def main(
    model: str = "resnet18",
    image_size: int = 224,
    batch_size: int = 16,
    rounds: int = 3,
    probe: int = 2**24,
) -> None:
    """Print what is exchanged, and the seconds per step.

    Args:
        model: key of MODELS.
        image_size: side of the images.
        batch_size: of all processes together, even.
        rounds: timed steps; exchanges are timed five times as often.
        probe: bytes of the exchange that measures the bandwidth.
    """
    measured = measure(Setting(model, image_size, batch_size, rounds, probe))
    links = ", ".join(
        f"{k} {v.latency * 1e6:.0f} us and {v.bandwidth / 1e9:.2f} GB/s" for k, v in measured.links.items()
    )
    print(f"{model}, {image_size} px, global batch {batch_size}, gloo over the loopback, one thread per process")
    print(f"\n{exchange_table(measured)}\n\n{step_table(measured)}\n\n{ASSUMPTIONS.format(links=links)}")


if __name__ == "__main__":
    auto_cli(main)
