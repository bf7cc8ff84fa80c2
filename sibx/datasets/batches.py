"""Samples of a data set in batches, read by this process or by workers."""

from typing import Any

from torch.utils.data import DataLoader

from sibx._checks import check_integer
from sibx.datasets.base import MaskedDataset, collate


def load_batches(data: MaskedDataset, batches: int | list[list[int]], workers: int = 0) -> DataLoader[Any]:
    """Return what yields a data set as MaskedBatches, in order; they do not depend on the number of workers.

    Args:
        data: the data set; it gives the same sample every time.
        batches: number of samples in a batch, for all samples; or the indices of every batch.
        workers: number of processes that read the samples ahead; 0 = the process that asks reads them.

    Raises:
        ValueError: ``workers`` that is not a whole number of at least 0.
    """
    check_integer("workers", workers, 0)
    size: dict[str, Any] = {"batch_sampler": batches} if isinstance(batches, list) else {"batch_size": int(batches)}
    return DataLoader(data, **size, num_workers=int(workers), collate_fn=collate)
