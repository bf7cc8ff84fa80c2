"""Which data sets are kept in memory: the one rule."""

from collections.abc import Mapping

from sibx._checks import check_range
from sibx.datasets.base import MaskedDataset
from sibx.datasets.in_memory import InMemoryDataset

GIB = 2**30
HELD = 2.0  # GiB of decoded images that a process keeps; what is larger is read again whenever it is used


def hold(sets: Mapping[str, MaskedDataset], memory: float = HELD) -> dict[str, MaskedDataset]:
    """Decode data sets once and keep them in memory, as long as they fit; the others are returned as they are.

    Only for data sets that give the same sample every time.

    Args:
        sets: the data sets by their names, those that are read most often first.
        memory: how many GiB all of them together may take, at least 0; sizes are counted from the first samples.

    Example:
        >>> sets = {"small": SyntheticDataset("val", 32, size=2), "large": SyntheticDataset("train", 32, size=4000)}
        >>> [type(data).__name__ for data in hold(sets, memory=0.01).values()]
        ['InMemoryDataset', 'SyntheticDataset']
    """
    check_range("memory", memory, 0)
    left, held = memory * GIB, {}
    for name, data in sets.items():
        size = size_of(data)
        held[name] = InMemoryDataset.load(data) if size <= left else data
        left -= size if size <= left else 0
    return held


def size_of(data: MaskedDataset) -> int:
    """Return how many bytes a data set takes in memory, by its first sample."""
    if not len(data):
        return 0
    first = data[0]
    return len(data) * sum(part.nbytes for part in (first.image, first.mask, first.undefined))
