"""Whether a device computes what the CPU computes: terms and gradients of S-IB, and maps."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import product

import torch
from loads import FEATURES, INPUT, Sizes, Workload, tf32
from measured import Case, Row
from torch import Tensor

from sibx import METHODS, IntegratedGradients

COMPARED = ("sib", "vjp", "saliency", "integrated_gradients", "gradcam")
FEW_STEPS = 8  # of Integrated Gradients: rounding is the same as with more, and the CPU computes in float64, too


def agreement(sizes: Sizes, device: str) -> Iterator[Case]:
    """Terms, gradients and maps, on both in float32 and float64.

    How far float32 is from float64 on the CPU says how far the device may be: percents for gradients of a network with
    ReLUs, where rounding switches units on and off. That both compute the same is seen in float64.
    """
    for name in sizes.available():
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
