"""Images with object masks: the DATASETS table and ``build_dataset``.

To add a dataset: one file here with a MaskedDataset, and one line in DATASETS.
"""

from typing import Any

from sibx._checks import look_up
from sibx.datasets.base import (
    DatasetSpec,
    InMemoryDataset,
    MaskedBatch,
    MaskedDataset,
    MaskedSample,
    collate,
    spread,
)
from sibx.datasets.boxes import draw_boxes
from sibx.datasets.folder import FolderDataset
from sibx.datasets.mosaic import MosaicDataset
from sibx.datasets.msrc import MSRCDataset
from sibx.datasets.pets import PetsDataset
from sibx.datasets.synthetic import SPLITS, SyntheticDataset
from sibx.datasets.transforms import IMAGENET, Normalization, augment

__all__ = [
    "DATASETS",
    "IMAGENET",
    "DatasetSpec",
    "FolderDataset",
    "InMemoryDataset",
    "MSRCDataset",
    "MaskedBatch",
    "MaskedDataset",
    "MaskedSample",
    "MosaicDataset",
    "Normalization",
    "PetsDataset",
    "SyntheticDataset",
    "augment",
    "build_dataset",
    "collate",
    "draw_boxes",
    "spread",
]


def _build_synthetic(_: str | None, split: str, image_size: int, **options: Any) -> SyntheticDataset:
    return SyntheticDataset("test-id" if split == "test" else split, image_size, **options)


DATASETS: dict[str, DatasetSpec] = {
    "synthetic": DatasetSpec(
        name="synthetic",
        title="Shapes on textures",
        build=_build_synthetic,
        splits=SPLITS,
        image_size=64,
        reference="generated; textures from the scikit-image wheel (see its data/README.txt)",
    ),
    "folder": DatasetSpec(
        name="folder",
        title="Your own images",
        build=FolderDataset,
        splits=("train", "val", "test"),
        image_size=224,
        reference="the user's own",
    ),
    "oxford-pets": DatasetSpec(
        name="oxford-pets",
        title="Oxford-IIIT Pet",
        build=PetsDataset,
        splits=("train", "val", "test"),
        image_size=224,
        reference="Parkhi et al., Cats and Dogs, CVPR 2012; CC BY-SA 4.0",
    ),
    "msrc-v2": DatasetSpec(
        name="msrc-v2",
        title="MSRC-v2",
        build=MSRCDataset,
        splits=("train", "val", "test"),
        image_size=224,
        reference="Winn et al., ICCV 2005; masks: Malisiewicz and Efros, BMVC 2007; Microsoft's, for research use",
    ),
}


def build_dataset(
    name: str | DatasetSpec,
    root: str | None = None,
    split: str = "test",
    image_size: int = 224,
    **options: object,
) -> MaskedDataset:
    """Build a dataset from the DATASETS table.

    Args:
        name: key of DATASETS, or a DatasetSpec of your own.
        root: folder of the data; ignored by ``synthetic``.
        split: one of the spec's splits; ``test`` of ``synthetic`` is ``test-id``.
        image_size: side of the square images in pixels.
        options: passed to the dataset's class (``rho`` of ``synthetic``, ``boundary`` of ``oxford-pets``, ``void`` of
            ``msrc-v2``).

    Raises:
        ValueError: unknown name or split, or missing data; the message lists the choices or the expected layout.
    """
    spec = name if isinstance(name, DatasetSpec) else look_up("name", name, DATASETS)
    return spec.build(root, split, image_size, **options)
