"""Peak memory of ``evaluate``, in a process of its own because the peak of a process only grows.

Scores synthetic images, made one by one, with a model that costs nothing, and prints the peak in MiB. Linux only: what
other systems report as the peak of a process is, if larger, that of the process that has started it.

    python benchmarks/cost/evaluation_peak.py --images 2000 --out_dir FOLDER
"""

import re
from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import Tensor

from sibx import METRICS, evaluate
from sibx.datasets import SyntheticDataset

METRICS_WITHOUT_MODEL = [name for name, spec in METRICS.items() if not spec.needs_model]


def logits(images: Tensor) -> Tensor:
    """Zeros (B, 8)."""
    return images.new_zeros(len(images), 8)


def main(images: int, out_dir: Path | None = None, image_size: int = 16) -> None:
    """Print the peak.

    Args:
        images: how many to score.
        out_dir: where results go batch by batch; None = they stay in memory.
        image_size: of a side in pixels.
    """
    torch.set_num_threads(1)
    data = SyntheticDataset("test-id", image_size, size=images)
    maps = {f"random {i}": lambda x, _: torch.rand(len(x), 1, image_size, image_size) for i in range(16)}
    evaluate(logits, data, methods=maps, metrics=METRICS_WITHOUT_MODEL, batch_size=128, out_dir=out_dir, progress=False)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) // 1024)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
