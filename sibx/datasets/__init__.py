"""Images with object masks: the DATASETS table and ``build_dataset``.

To add a data set: one file here with a MaskedDataset, and one line in DATASETS.
"""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from sibx._checks import look_up
from sibx._plugins import Table, only
from sibx.datasets._wrap import wrap
from sibx.datasets.base import (
    DatasetSpec,
    MaskedBatch,
    MaskedDataset,
    MaskedSample,
    collate,
    spread,
)
from sibx.datasets.boxes import draw_boxes
from sibx.datasets.coco import COCODataset
from sibx.datasets.coco_panoptic import COCOPanopticDataset
from sibx.datasets.composite import CompositeDataset
from sibx.datasets.cub import CUBDataset
from sibx.datasets.dogs import StanfordDogsDataset
from sibx.datasets.eth80 import ETH80Dataset
from sibx.datasets.folder import FolderDataset
from sibx.datasets.grid import GridDataset
from sibx.datasets.holding import hold
from sibx.datasets.imagenet_s import ImageNetSDataset
from sibx.datasets.imagenet_segmentation import ImageNetSegmentationDataset
from sibx.datasets.in_memory import InMemoryDataset
from sibx.datasets.magnetic_tile import MagneticTileDataset
from sibx.datasets.mosaic import MosaicDataset
from sibx.datasets.msrc import MSRCDataset
from sibx.datasets.on_scenes import ObjectsOnScenesDataset
from sibx.datasets.other_masks import OtherMasks
from sibx.datasets.packed import PackedMasks
from sibx.datasets.part import Part
from sibx.datasets.pets import PetsDataset
from sibx.datasets.pictures import PictureDataset
from sibx.datasets.renormalized import Renormalized
from sibx.datasets.scenes import SceneDataset
from sibx.datasets.several import OnePerClass, SeveralLabels, one_per_class
from sibx.datasets.synthetic import SPLITS, SyntheticDataset
from sibx.datasets.voc import VOCDataset
from sibx.datasets.waterbirds import WaterbirdsDataset
from sibx.images.normalization import Normalization

__all__ = [
    "DATASETS",
    "COCODataset",
    "COCOPanopticDataset",
    "CUBDataset",
    "CompositeDataset",
    "DatasetSpec",
    "ETH80Dataset",
    "FolderDataset",
    "GridDataset",
    "ImageNetSDataset",
    "ImageNetSegmentationDataset",
    "InMemoryDataset",
    "MSRCDataset",
    "MagneticTileDataset",
    "MaskedBatch",
    "MaskedDataset",
    "MaskedSample",
    "MosaicDataset",
    "ObjectsOnScenesDataset",
    "OnePerClass",
    "OtherMasks",
    "PackedMasks",
    "Part",
    "PetsDataset",
    "Renormalized",
    "SceneDataset",
    "SeveralLabels",
    "StanfordDogsDataset",
    "SyntheticDataset",
    "VOCDataset",
    "WaterbirdsDataset",
    "build_dataset",
    "collate",
    "draw_boxes",
    "hold",
    "one_per_class",
    "spread",
    "wrap",
]


def _build_synthetic(_: str | None, split: str, image_size: int, **options: Any) -> SyntheticDataset:
    return SyntheticDataset("test-id" if split == "test" else split, image_size, **options)


def _several(kind: Callable[..., PictureDataset]) -> Callable[..., MaskedDataset]:
    """Return a builder that takes ``several_labels``."""

    def build(
        root: str | None, split: str, image_size: int, *, several_labels: bool = False, **options: Any
    ) -> MaskedDataset:
        rows = kind(root, split, image_size, **options)
        return SeveralLabels(rows) if several_labels else rows

    return build


DATASETS: Table[DatasetSpec] = Table(
    "sibx.datasets",
    (
        DatasetSpec(
            name="synthetic",
            title="Shapes on textures",
            build=_build_synthetic,
            splits=SPLITS,
            image_size=64,
            masks="exact, drawn with the shapes",
            reference="generated",
            licence="textures from the scikit-image wheel (see its data/README.txt)",
        ),
        DatasetSpec(
            name="folder",
            title="Your own images",
            build=FolderDataset,
            splits=("train", "val", "test"),
            image_size=224,
            masks="yours, non-zero = object",
            reference="the user's own",
            licence="the user's own",
        ),
        DatasetSpec(
            name="oxford-pets",
            title="Oxford-IIIT Pet",
            build=PetsDataset,
            splits=("train", "val", "test"),
            image_size=224,
            masks="trimaps",
            reference="Parkhi et al., Cats and Dogs, CVPR 2012",
            licence="CC BY-SA 4.0",
        ),
        DatasetSpec(
            name="msrc-v2",
            title="MSRC-v2",
            build=MSRCDataset,
            splits=("train", "val", "test"),
            image_size=224,
            masks="pixel classes, cleaned by Malisiewicz and Efros",
            reference="Winn et al., ICCV 2005; masks: Malisiewicz and Efros, BMVC 2007",
            licence="Microsoft's, for research use",
        ),
        DatasetSpec(
            name="cub200",
            title="CUB-200-2011",
            build=CUBDataset,
            splits=("train", "val", "test"),
            image_size=224,
            masks="outlines by five annotators, majority",
            reference="Wah et al., CNS-TR-2011-001, Caltech 2011",
            licence="photographs from Flickr, for non-commercial research and education",
        ),
        DatasetSpec(
            name="voc2012",
            title="Pascal VOC 2012",
            build=_several(VOCDataset),
            splits=("train", "val", "test"),
            image_size=224,
            masks="pixel classes, void undefined; one row per image and class",
            reference="Everingham et al., IJCV 111, 2015",
            licence="photographs from Flickr, under its terms of use",
        ),
        DatasetSpec(
            name="stanford-dogs",
            title="Stanford Dogs",
            build=StanfordDogsDataset,
            splits=("train", "val", "test"),
            image_size=224,
            masks="boxes, filled",
            reference="Khosla et al., FGVC at CVPR 2011",
            licence="ImageNet's, for non-commercial research and education",
        ),
        DatasetSpec(
            name="imagenet-s",
            title="ImageNet-S",
            build=ImageNetSDataset,
            splits=("train", "val", "test"),
            image_size=224,
            masks="pixel classes, ignored pixels undefined",
            reference="Gao et al., TPAMI 45, 2023, arXiv 2106.03149",
            licence="ImageNet's, for non-commercial research and education",
        ),
        DatasetSpec(
            name="imagenet-segmentation",
            title="ImageNet-Segmentation",
            build=ImageNetSegmentationDataset,
            splits=("test",),
            image_size=224,
            masks="pixels of the object",
            reference="Guillaumin et al., IJCV 110, 2014",
            licence="ImageNet's, for non-commercial research and education",
        ),
        DatasetSpec(
            name="coco",
            title="COCO 2017",
            build=_several(COCODataset),
            splits=("train", "val", "test"),
            image_size=224,
            masks="union of a class's instances, crowds undefined; one row per image and class",
            reference="Lin et al., ECCV 2014, arXiv 1405.0312",
            licence="annotations CC BY 4.0, photographs from Flickr under their own licenses",
        ),
        DatasetSpec(
            name="coco-panoptic",
            title="COCO panoptic",
            build=_several(COCOPanopticDataset),
            splits=("train", "val", "test"),
            image_size=224,
            masks="pixel classes, unlabeled pixels undefined; one row per image and class",
            reference="Kirillov et al., CVPR 2019, arXiv 1801.00868",
            licence="annotations CC BY 4.0, photographs from Flickr under their own licenses",
        ),
        DatasetSpec(
            name="magnetic-tile",
            title="Magnetic-tile defects",
            build=MagneticTileDataset,
            splits=("train", "val", "test"),
            image_size=224,
            masks="pixel masks of the defects; empty for tiles without one",
            reference="Huang et al., The Visual Computer 36, 2020",
            licence="not stated; use is welcome, citation is asked for",
        ),
        DatasetSpec(
            name="eth80",
            title="ETH-80",
            build=ETH80Dataset,
            splits=("train", "val", "test"),
            image_size=224,
            masks="exact outlines, split by object",
            reference="Leibe and Schiele, CVPR 2003",
            licence="not stated; a research data set",
        ),
        DatasetSpec(
            name="waterbirds",
            title="Waterbirds",
            build=WaterbirdsDataset,
            splits=("train", "val", "test"),
            image_size=224,
            masks="those of CUB-200-2011",
            reference="Sagawa et al., ICLR 2020, arXiv 1911.08731",
            licence="that of CUB-200-2011 and Places, for non-commercial research and education",
        ),
        DatasetSpec(
            name="pets-on-scenes",
            title="Pets on scenes",
            build=partial(ObjectsOnScenesDataset, "pets"),
            splits=SPLITS,
            image_size=224,
            masks="exact, of the trimaps that the pets are cut out by",
            reference="Parkhi et al., CVPR 2012, on Winn et al., ICCV 2005, after Sagawa et al., ICLR 2020",
            licence="those of Oxford-IIIT Pet and of MSRC-v2",
        ),
        DatasetSpec(
            name="eth80-on-scenes",
            title="ETH-80 on scenes",
            build=partial(ObjectsOnScenesDataset, "eth80"),
            splits=SPLITS,
            image_size=224,
            masks="exact, those that the objects are cut out by",
            reference="Leibe and Schiele, CVPR 2003, on Winn et al., ICCV 2005, after Sagawa et al., ICLR 2020",
            licence="of the objects not stated; that of MSRC-v2",
        ),
    ),
    only(DatasetSpec),
)


def build_dataset(
    name: str | DatasetSpec,
    root: str | None = None,
    split: str = "test",
    image_size: int = 224,
    *,
    normalization: Normalization | None = None,
    **options: object,
) -> MaskedDataset:
    """Build a data set from the DATASETS table.

    Args:
        name: key of DATASETS, or a DatasetSpec of your own.
        root: folder of the data; ignored by ``synthetic``.
        split: one of the splits of the data set; for ``synthetic`` ``test`` means ``test-id``.
        image_size: side of the square images in pixels.
        normalization: from pixels in [0, 1] to what the model sees, ``about(model).normalization``; None = the data
            set's own, which is ImageNet's for photographs.
        options: further arguments of the data set's class: ``rho`` of ``synthetic``, ``boundary`` of ``oxford-pets``,
            ``void`` of ``msrc-v2``, ``agreement`` of ``cub200`` and ``waterbirds``, ``min_area`` of ``voc2012`` and
            ``coco``, ``count`` of ``imagenet-s``, ``binary`` of ``magnetic-tile``, ``agreement``, ``scale``, ``kinds``
            and ``copies`` of ``pets-on-scenes`` and ``eth80-on-scenes``, ``several_labels`` of ``voc2012``, ``coco``
            and ``coco-panoptic`` (one sample per photograph, with all its classes), ``least`` of ``coco-panoptic``,
            ``classes`` (names, in the order of a model's outputs) of ``folder``; ``download``
            where torchvision has the data (``oxford-pets``, ``voc2012``).

    Raises:
        ValueError: an unknown name or split, or missing data; the message lists the choices or the expected layout.

    Example:
        >>> sample = build_dataset("synthetic", split="test", image_size=64)[0]
        >>> sample.image.shape, sample.mask.shape, sample.label
        (torch.Size([3, 64, 64]), torch.Size([1, 64, 64]), 0)
    """
    spec = name if isinstance(name, DatasetSpec) else look_up("name", name, DATASETS)
    if normalization is None:
        return spec.build(root, split, image_size, **options)
    if "normalization" in signature(spec.build).parameters:  # which says how many channels it reads
        return spec.build(root, split, image_size, normalization=normalization, **options)
    return Renormalized(spec.build(root, split, image_size, **options), normalization)
