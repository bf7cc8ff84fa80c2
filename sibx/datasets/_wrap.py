"""A data set of the user's own, whatever its items look like, as a MaskedDataset."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from sibx._checks import check_integer, require
from sibx.datasets.base import MaskedDataset, MaskedSample
from sibx.datasets.folder_masks import warn_of_doubt
from sibx.datasets.item_images import ImageReader, choose_reader
from sibx.datasets.item_labels import find_classes, read_label
from sibx.datasets.item_masks import Size, read_one, read_several
from sibx.datasets.items import AbsentError, Key, by_files, take
from sibx.datasets.several import present
from sibx.images.geometry import resize_and_center_crop
from sibx.images.normalization import Normalization
from sibx.images.reading import Once

SEARCHED = 16  # number of items among which one has to have what some items may lack


def wrap(
    dataset: Any,
    *,
    image: Key = 0,
    label: Key = 1,
    mask: Key | None = None,
    undefined: Key | None = None,
    group: Key | None = None,
    id: Key | None = None,  # noqa: A002 - the name of the sample's field
    classes: Sequence[str] | int | None = None,
    name: str = "wrapped",
    split: str = "all",
    normalization: Normalization | None = None,
    normalized: Normalization | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> MaskedDataset:
    """Return any data set as a MaskedDataset: torch's, torchvision's, Hugging Face's, or a list of items.

    Items are tuples, dicts, NamedTuples or objects. Arguments say where their parts stand: a place in a tuple, a key,
    the name of an attribute, several of these from the outside in (``(1, "boxes")``), or a function of the item. Only
    the first item is read now, so that most mistakes show at once; later ones name their item. Worker processes need
    a data set and functions that can be pickled, where processes are not forked.

    Images may be pictures (PIL) or their paths, tensors (C, H, W) or arrays (H, W, C). Pictures and whole numbers
    (uint8, uint16) are pixels. Floating-point images are taken as what the model sees, unless ``normalization`` is
    given: then they are pixels in [0, 1], too.

    A mask may be a picture, its path, or an array or a tensor (H, W) or (1, H, W); the object is where it is not 0, of
    floating-point values where they are above 1/2. It may be a box (x0, y0, x1, y1) in pixels, a list or an array
    (N, 4) of boxes, or torchvision's ``BoundingBoxes``. None, no boxes, or a dict without the key, is an image without
    a mask. With several labels per image ``mask`` gives a list, one mask for each class that is there in the order of
    classes, or a dict from names of classes to masks or boxes.

    Args:
        dataset: the data set, with a length and items by their index.
        image: where the image stands in an item.
        label: where the label stands: a class index, the name of a class, or of several labels a vector (K,) of 0, 1
            and NaN = unknown, or a list of names.
        mask: where the mask stands; None = there are no masks.
        undefined: where another mask stands, of pixels that may or may not be object; None = there are none.
        group: where the index of a subpopulation stands; None = there are no groups.
        id: where a name stands that no other image has; None = the index.
        classes: names of the K classes in the order of the model's outputs, or their number; None = the data set says
            it (``classes`` of torchvision, ``features`` of Hugging Face, the length of its label vectors).
        name: name of the data set, in results.
        split: name of the split, in results.
        normalization: from pixels in [0, 1] to what the model sees; None = ImageNet's, for colored pixels.
        normalized: how floating-point images were normalized already, so that their pixels can be drawn and changed.
        image_size: side in pixels to which the shorter side of image and mask is resized before the central square is
            cut out; or (height, width), which image and mask are resized to cover before the middle is cut out; None =
            images stay as they are, all of one size.

    Raises:
        ValueError: a data set without length or index, a part that items do not have, images, masks or labels of
            another kind or size, or unknown classes. The message says which item, and what it has; an item's own
            mistakes are raised when it is read.
        OSError: a picture that cannot be read.

    Example:
        >>> items = [{"pixels": torch.rand(3, 32, 32), "kind": "cat", "box": (8, 8, 24, 24)}]
        >>> data = wrap(items, image="pixels", label="kind", mask="box", classes=["cat", "dog"])
        >>> data[0].label, int(data[0].mask.sum())
        (0, 256)
    """
    parts: dict[str, Any] = {
        "image": image,
        "label": label,
        "mask": mask,
        "undefined": undefined,
        "group": group,
        "id": id,
    }
    reads = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and not isinstance(dataset, Mapping)
    require(reads, "dataset", "have a length and items by their index", dataset)
    require(len(dataset) > 0, "dataset", "hold at least one item", len(dataset))
    keys = {argument: key for argument, key in parts.items() if key is not None}
    if image_size is not None:
        for side in (image_size,) if isinstance(image_size, int) else image_size:
            check_integer("image_size", side, 1)
    first = dataset[0]
    with _of_item(0, name):
        for argument, key in keys.items():
            _check_found(dataset, first, key, argument)
        first_image, first_label = (take(first, parts[part], part) for part in ("image", "label"))
    names = find_classes(dataset, label, first_label, classes)
    with _of_item(0, name):
        reader = choose_reader(first_image, normalization, normalized)
    wrapped = _Wrapped(dataset, keys, reader, names, image_size)
    wrapped.name, wrapped.split = name, split
    wrapped.look_at_first()
    return wrapped


class _Wrapped(MaskedDataset):
    """What ``wrap`` returns."""

    def __init__(
        self,
        source: Any,
        keys: Mapping[str, Key],
        reader: ImageReader,
        classes: tuple[str, ...],
        image_size: int | tuple[int, int] | None,
    ):
        self.source, self.keys, self.reader, self.image_size = source, keys, reader, image_size
        self.classes, self.normalization = classes, reader.normalization
        self.no_masks = "" if "mask" in keys else "`mask` of sibx.wrap names none"
        self._shape: tuple[int, ...] | None = None
        self._warn = Once()
        key = keys["label"]
        # Hugging Face's data sets can leave out the columns that a label does not need: no picture is decoded.
        alone = isinstance(key, str) and hasattr(source, "select_columns")
        self._labeled = source.select_columns([key]) if alone else source

    def look_at_first(self) -> None:
        """Note the kind of labels and the shape of the images, which are those of the first item."""
        self.several_labels = isinstance(self.label_of(0), Tensor)
        self._shape = tuple(self[0].image.shape)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> MaskedSample:
        self._check_index(index)
        item = self.source[index]
        with _of_item(index, self.name):
            return self._sample(item, index)

    def label_of(self, index: int) -> int | Tensor:
        """Return the label of a sample; a picture is decoded only if the data set gives no label without."""
        self._check_index(index)
        item = self._labeled[index]
        with _of_item(index, self.name):
            return self._label(item)

    def group_of(self, index: int) -> int:
        """Return the group of a sample, of which nothing is read if there are no groups."""
        if "group" not in self.keys:
            return -1
        item = self.source[index]
        with _of_item(index, self.name):
            return self._group(item)

    def origin_of(self, index: int) -> Mapping[str, Any]:
        """Return the files of an item that names its picture by a path; any other item is read."""
        self._check_index(index)
        item = self.source[index]
        with _of_item(index, self.name):
            files = by_files({part: self._value(item, part) for part in ("image", "mask", "undefined")})
            if files is None:
                return self._sample(item, index)._asdict()
            return {**files, "label": self._label(item), "id": self._id(item, index), "group": self._group(item)}

    def _sample(self, item: Any, index: int) -> MaskedSample:
        image, label = self.reader(take(item, self.keys["image"], "image"), self._warn), self._label(item)
        size = (image.shape[1], image.shape[2])
        mask, undefined = (self._masks(item, part, size, label) for part in ("mask", "undefined"))
        if not self.several_labels and bool(mask.any()):
            warn_of_doubt(mask, f"item {index} of {self.name}", self._warn)
        if self.image_size is not None:
            image = resize_and_center_crop(image, self.image_size)
            mask, undefined = (resize_and_center_crop(m, self.image_size, masks=True) for m in (mask, undefined))
        rule = f"have the shape {self._shape} of the first item's (`image_size` brings all to one size)"
        require(self._shape in (None, tuple(image.shape)), "image", rule, image)
        return MaskedSample(
            image=image,
            mask=mask,
            label=label,
            id=self._id(item, index),
            group=self._group(item),
            undefined=undefined,
        )

    def _id(self, item: Any, index: int) -> str:
        return str(take(item, self.keys["id"], "id") if "id" in self.keys else index)

    def _value(self, item: Any, part: str) -> Any:
        """Return a part that an item may lack."""
        try:
            return take(item, self.keys[part], part) if part in self.keys else None
        except AbsentError:
            return None

    def _label(self, item: Any) -> int | Tensor:
        label = read_label(take(item, self.keys["label"], "label"), self.classes)
        first = "several labels" if self.several_labels else "one label"
        good = self._shape is None or isinstance(label, Tensor) == self.several_labels
        require(good, "label", f"be of the kind of the first item's, {first}", label)
        return label

    def _group(self, item: Any) -> int:
        group = take(item, self.keys["group"], "group") if "group" in self.keys else -1
        group = group.item() if isinstance(group, Tensor) and group.numel() == 1 else group
        check_integer("group", group, -1)
        return int(group)

    def _masks(self, item: Any, part: str, size: Size, label: int | Tensor) -> Tensor:
        """Return the masks (P, H, W) of one kind, for all classes that are there."""
        value = self._value(item, part)
        if not isinstance(label, Tensor):
            return read_one(value, size, part, self._warn)
        names = [self.classes[k] for k in present(label)]
        return read_several(value, size, names, part, self._warn)


def _check_found(dataset: Any, first: Any, key: Key, argument: str) -> None:
    """Require the first item to have a part; of what an item may lack, one of the first items."""
    try:
        take(first, key, argument)
    except AbsentError as error:
        others = range(1, min(SEARCHED, len(dataset)) if argument in ("mask", "undefined") else 1)
        if not any(_has(dataset[index], key, argument) for index in others):
            raise ValueError(str(error)) from None


def _has(item: Any, key: Key, argument: str) -> bool:
    try:
        take(item, key, argument)
    except AbsentError:
        return False
    return True


@contextmanager
def _of_item(index: int, name: str) -> Iterator[None]:
    """Say in an error which item it is about."""
    try:
        yield
    except (AbsentError, ValueError, OSError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"item {index} of {name}: {error}") from error
