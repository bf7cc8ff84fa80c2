"""What the program would wait for on a GPU, seen on a CPU."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

READS = ("_local_scalar_dense", "nonzero", "masked_select")  # a number, or how many there are, for Python
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")  # by a bool tensor: how many are True


class Waits(TorchDispatchMode):
    """Collects the names of the operations within the block that need an answer from the device.

    Copies to and from the device, ``tolist`` among them, are not seen.
    """

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        name = operation.overloadpacket.__name__
        if name in READS or (name in INDEXING and any(_is_bool(index) for index in arguments[1])):
            self.found.append(name)
        return operation(*arguments, **(options or {}))


def _is_bool(index: object) -> bool:
    return isinstance(index, Tensor) and index.dtype == torch.bool
