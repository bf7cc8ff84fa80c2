"""How a model has to run, so that its layers can be read and its gradients differentiated again."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def uncompiled() -> Iterator[None]:
    """Within the block compiled models run uncompiled; they stay compiled.

    Compiled code neither calls the hooks that read layers, nor has a second derivative.
    """
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Within the block models run uncompiled, and attention with the plain kernel.

    Neither compiled code nor the fused kernels of attention have a second derivative.
    """
    with uncompiled(), sdpa_kernel(SDPBackend.MATH):
        yield
