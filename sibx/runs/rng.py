"""The random number generators that a training run may use: those of Python, NumPy, torch and the device."""

import random
from typing import Any

import numpy as np
import torch


def seed_rng(seed: int) -> None:
    """Seed all global generators."""
    seed_cpu_rng(seed)
    torch.manual_seed(seed)


def seed_cpu_rng(seed: int) -> None:
    """Seed the global generators of the CPU, and leave those of other devices alone."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  a user's transform may draw from it
    torch.default_generator.manual_seed(seed)


def rng_state(device: torch.device) -> dict[str, Any]:
    """Return the state of all global generators, as tensors and plain values."""
    algorithm, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    version, numbers, gauss = random.getstate()
    state = {
        "python": [version, list(numbers), gauss],
        "numpy": [str(algorithm), [int(k) for k in keys], *rest],
        "torch": torch.get_rng_state(),
    }
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_rng(state: dict[str, Any], device: torch.device) -> None:
    """Set all global generators to a state that ``rng_state`` returned."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    algorithm, keys, *rest = state["numpy"]
    np.random.set_state((algorithm, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
