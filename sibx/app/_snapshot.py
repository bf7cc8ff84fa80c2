"""The pictures of a training in a folder of its own, so that what is drawn later changes no training that goes on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from sibx._files import write_atomically
from sibx.app._corrections import file_name, label_name, picture_file, table_file
from sibx.app._lesson import VALIDATION, Lesson
from sibx.app._strokes import png_of
from sibx.datasets import MaskedDataset, MaskedSample, Part, spread
from sibx.datasets.folder_files import CLASSES
from sibx.images.pixels import as_colors

COLUMNS = ("image", "mask", "label", "split", "group", "undefined")
Drawn = Mapping[int, tuple[Tensor, Tensor]]  # index -> mask and undefined pixels, (1, H, W) bool each
OwnMasks = Callable[[MaskedDataset], Tensor]  # images -> (N, 1, H, W) bool


def write_snapshot(
    folder: Path, lesson: Lesson, splits: Mapping[str, Sequence[MaskedDataset]], drawn: Drawn, own: OwnMasks
) -> None:
    """Write the pictures of a training with their masks; the index is written last, and says that it is complete.

    Args:
        folder: where to.
        lesson: settings of the training.
        splits: ``train``, ``val`` and ``test``: the data sets that they are made of; of ``train`` the first has the
            pictures that were drawn on.
        drawn: the masks that were drawn.
        own: function that returns a network's own masks of images, called if the settings ask for them.
    """
    train = splits["train"][0]
    others = [i for i in range(len(train)) if i not in drawn]
    others = [others[k] for k in spread(len(others), max(0, lesson.train_images - len(drawn)))]
    masks = own(Part(train, others)) if lesson.elsewhere == "own" and others else None
    rows = [_write(folder, "train", train, i, train[i]._replace(mask=m, undefined=u)) for i, (m, u) in drawn.items()]
    for place, index in enumerate(others):
        rows.append(_write(folder, "train", train, index, _taught(train[index], lesson, masks, place)))
    seen = {train[i].id for i in drawn}
    for part, most in (("val", VALIDATION), ("test", lesson.test_images)):
        rows += [_write(folder, part, data, i, data[i]) for data, i in _held_out(splits[part], most, seen)]
    write_atomically(folder / CLASSES, "".join(f"{name}\n" for name in train.classes).encode())
    write_atomically(folder / "index.csv", table_file(rows, COLUMNS))


def _taught(sample: MaskedSample, lesson: Lesson, masks: Tensor | None, place: int) -> MaskedSample:
    """Return a picture that nobody drew on with the mask that it teaches with."""
    if lesson.elsewhere == "given":
        return sample
    mask = sample.mask & False if masks is None else masks[place]
    return sample._replace(mask=mask, undefined=mask & False)


def _held_out(parts: Sequence[MaskedDataset], most: int, seen: set[str]) -> Iterator[tuple[MaskedDataset, int]]:
    """Yield pictures nobody drew on, spread over all splits of a part, which have equally many."""
    for data in parts:
        for index in spread(len(data), -(-most // len(parts))):
            if str(data.origin_of(index)["id"]) not in seen:
                yield data, index


def _write(folder: Path, part: str, data: MaskedDataset, index: int, sample: MaskedSample) -> dict[str, str]:
    """Write a picture and what is known of it; return its line of the index."""
    name = f"{part}/{file_name(data, index)}.png"
    pixels = as_colors(data.normalization.inverse(sample.image).unsqueeze(0))[0].clamp(0, 1)
    _put(folder / "images" / name, picture_file((pixels * 255).round().byte().permute(1, 2, 0).numpy()))
    files = {"mask": sample.mask, "undefined": sample.undefined}
    for kind, pixel in files.items():
        if pixel.any():
            _put(folder / kind / name, png_of(pixel[0].numpy()))
    cells = {kind: f"{kind}/{name}" if pixel.any() else "" for kind, pixel in files.items()}
    label = label_name(data, index)
    return {"image": f"images/{name}", "label": label, "split": part, "group": str(sample.group), **cells}


def _put(path: Path, content: bytes) -> None:
    """Write a file that need not appear at once, as the index comes last: much faster for thousands of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
