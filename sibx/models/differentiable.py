"""How a model has to run, so that its layers can be read and its gradients differentiated again."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.nn.attention import SDPBackend, sdpa_kernel

_RUNNING: WeakSet[ExitStack] = WeakSet()  # the backward pass, if any, that `keep_way` has changed


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


def keep_way(*tensors: Tensor) -> None:
    """Let every backward pass through the tensors, up to its end, run models as ``twice_differentiable`` does.

    Where activations are checkpointed the backward pass runs parts of the model again, long after the block in which
    the model ran, and what they save must be the same then.

    Args:
        tensors: what a model computed within such a block, or gradients of that.
    """
    for tensor in tensors:
        if tensor.requires_grad:
            tensor.register_hook(_start)


def _start(_: Tensor) -> None:
    if _RUNNING:
        return
    stack = ExitStack()
    stack.enter_context(twice_differentiable())
    _RUNNING.add(stack)

    def finish() -> None:
        _RUNNING.discard(stack)
        stack.close()

    # Of a pass that fails nobody calls it; the engine then forgets it, and the block ends with the stack.
    engine: Any = Variable._execution_engine
    engine.queue_callback(finish)
