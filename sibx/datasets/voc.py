"""Pascal VOC 2012, segmentation: 20 classes of objects, several in a photograph, with pixel-exact masks.

Source: Everingham, Eslami, Van Gool, Williams, Winn and Zisserman, The Pascal Visual Object Classes Challenge: A
Retrospective, IJCV 111, 2015. Masks: its SegmentationClass pictures. The photographs are from Flickr, under its terms
of use; sibx does not distribute them.
"""

from collections.abc import Iterator

from torch import Tensor
from torchvision.datasets import VOCSegmentation

from sibx._checks import check_choice, check_folder, check_range
from sibx.datasets.base import split_indices
from sibx.datasets.pictures import PictureDataset, Row, Size, require_files
from sibx.images.geometry import central_square

FOLDER = "VOCdevkit/VOC2012"
VOID = 255  # mask value of the outlines around objects and of what was too hard to outline
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)  # mask values 1..20; 0 is background
LAYOUT = (
    f"<root>/{FOLDER}/{{JPEGImages/*.jpg,SegmentationClass/*.png,ImageSets/Segmentation/{{train,val}}.txt}} "
    "(download=True fetches it, with torchvision.datasets.VOCSegmentation; or VOCtrainval_11-May-2012.tar from "
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012)"
)


class VOCDataset(PictureDataset):
    """One row for each class that a photograph shows; the mask is every pixel of that class, void is undefined.

    A class is shown if it has a pixel in the central square; what lies outside the square is cut off, and no model can
    see it. Objects of a few pixels can vanish when the square is made smaller, and then have no scores; ``min_area``
    leaves them out.

    Args:
        root: folder that holds ``VOCdevkit``, as torchvision lays it out.
        split: ``train`` and ``val`` (every fifth photograph of the published ``train``), or ``test`` (the published
            ``val``; the masks of the published test images are not public).
        image_size: side of the central square in pixels.
        min_area: smallest share of the photograph's pixels that a class has to cover to get a row.
        download: let torchvision fetch the data into ``root`` first (2 GB, checksummed).

    Raises:
        ValueError: an unknown split, ``min_area`` outside [0, 1], or a root without the data.
    """

    name = "voc2012"
    classes = CLASSES

    def __init__(
        self,
        root: str | None,
        split: str = "test",
        image_size: int = 224,
        *,
        min_area: float = 0.0,
        download: bool = False,
    ):
        check_choice("split", split, ("train", "val", "test"))
        check_range("min_area", min_area, 0, 1)
        self.split, self.image_size = split, image_size
        part = "val" if split == "test" else "train"
        if download and root is not None:
            VOCSegmentation(root, year="2012", image_set=part, download=True)
        self.root = check_folder("root", root, LAYOUT)
        listed = f"{FOLDER}/ImageSets/Segmentation/{part}.txt"
        require_files(self.root, [listed], LAYOUT)
        names = (self.root / listed).read_text(encoding="utf-8").split()
        names = [names[i] for i in split_indices(split, len(names))]
        self.unsure: dict[str, set[int]] = {}
        self.rows = [row for name in names for row in self._rows(name, min_area)]
        self._check_rows(LAYOUT)

    def _rows(self, name: str, min_area: float) -> Iterator[Row]:
        image, mask = f"{FOLDER}/JPEGImages/{name}.jpg", f"{FOLDER}/SegmentationClass/{name}.png"
        require_files(self.root, [mask], LAYOUT)
        values = self._read_values(mask, "P", "L")
        self.unsure[image] = set()
        for value in central_square(values).unique().tolist():
            if value in (0, VOID):
                continue
            if (values == value).double().mean() < min_area:
                self.unsure[image].add(value - 1)
            else:
                yield Row(image, mask, value - 1, f"{name}/{CLASSES[value - 1]}")

    def _read_masks(self, row: Row, size: Size) -> tuple[Tensor, Tensor]:
        values = self._read_values(row.mask, "P", "L")
        return values == row.label + 1, values == VOID
