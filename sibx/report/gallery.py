"""Pictures of a report: images with their masks and the maps of several trainings, drawn on one scale."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from sibx._checks import require
from sibx._files import write_atomically
from sibx.report.maps import Scale, is_defined, is_signed, paint, relative, shared_scale

GALLERY_FILE = "gallery.npz"
SIDE = 224  # longer side of a picture on the page, in pixels
# With full color resolution, or the outline would blur.
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 82, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True, eq=False)
class GalleryItem:
    """One image with its maps.

    Attributes:
        dataset: name of the data set; this and the next three find the image's scores in the rows of Results.
        split: split of the data set.
        model: value of the ``model`` column.
        id: value of the ``image_id`` column.
        class_name: name of the label's class.
        picture: (H, W, 3) in [0, 1].
        mask: (H, W) bool, True on the object; all False where no mask is known.
        maps: method -> training -> heatmap (H, W), with or without signs. Those of a method share a scale, after each
            has been divided by its own mean magnitude.
    """

    dataset: str
    split: str
    model: str
    id: str
    class_name: str
    picture: np.ndarray
    mask: np.ndarray
    maps: Mapping[str, Mapping[str, np.ndarray]]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells the image from all others, in the rows of Results too: data set, split, model, id."""
        return self.dataset, self.split, self.model, self.id

    def __post_init__(self) -> None:
        shape = self.picture.shape
        require(len(shape) == 3 and shape[2] == 3, "picture", "have the shape (H, W, 3)", shape)
        require(self.mask.shape == shape[:2] and self.mask.dtype == bool, "mask", f"be bool, {shape[:2]}", self.mask)
        for method, by_training in self.maps.items():
            for training, heatmap in by_training.items():
                name = f"maps[{method!r}][{training!r}]"
                require(heatmap.shape == shape[:2], name, f"have the shape {shape[:2]}", heatmap.shape)


class Drawing(NamedTuple):
    """The maps of one method over one image: training -> JPEG, and the scale that they share."""

    pictures: dict[str, bytes]
    undefined: tuple[str, ...]  # trainings whose map is
    scale: Scale


def signed_methods(items: Iterable[GalleryItem]) -> set[str]:
    """Return the methods with a negative value anywhere: all maps of such a method diverge around 0."""
    return {m for item in items for m, by_training in item.maps.items() if is_signed(by_training.values())}


def draw_maps(item: GalleryItem, method: str, *, signed: bool) -> Drawing:
    """Draw the maps of one method over the image, with the mask's contour, on one scale in units of their means."""
    maps = {training: _relative(heatmap) for training, heatmap in item.maps[method].items()}
    scale = shared_scale(maps.values(), signed=signed)
    pictures = {t: draw_picture(paint(item.picture, heatmap, scale), item.mask) for t, heatmap in maps.items()}
    return Drawing(pictures, tuple(t for t, heatmap in maps.items() if not is_defined(heatmap)), scale)


def draw_picture(picture: np.ndarray, mask: np.ndarray) -> bytes:
    """Return a picture (H, W, 3) in [0, 1] with the outline of a mask (H, W) bool, white on black, as a JPEG."""
    factor = SIDE / max(mask.shape)
    size = round(mask.shape[1] * factor), round(mask.shape[0] * factor)
    way = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    pixels = (cv2.resize(picture.astype(np.float32), size, interpolation=way).clip(0, 1) * 255).round().astype(np.uint8)
    smooth = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
    outlines, _ = cv2.findContours(smooth.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.drawContours(pixels, outlines, -1, color, thickness)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), JPEG)
    return encoded.tobytes()


def save_gallery(items: Sequence[GalleryItem], folder: str | Path) -> Path:
    """Write ``gallery.npz`` into a folder, where ``sibx report`` finds it.

    Pictures are kept in 8 bits, maps divided by their mean magnitude in 16.
    """
    arrays: dict[str, np.ndarray] = {}
    notes = []
    for number, item in enumerate(items):
        arrays[f"{number}/picture"] = (item.picture.clip(0, 1) * 255).round().astype(np.uint8)
        arrays[f"{number}/mask"] = np.packbits(item.mask)
        names = [(method, training) for method, by_training in item.maps.items() for training in by_training]
        for place, (method, training) in enumerate(names):
            values = _relative(item.maps[method][training])
            arrays[f"{number}/{place}"] = values.clip(-FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
        notes.append([item.dataset, item.split, item.model, item.id, item.class_name, names])
    stream = io.BytesIO()
    np.savez_compressed(stream, notes=np.array(json.dumps(notes)), **arrays)  # type: ignore[arg-type]
    path = Path(folder) / GALLERY_FILE
    write_atomically(path, stream.getbuffer())
    return path


def load_gallery(folder: str | Path) -> list[GalleryItem]:
    """Read what ``save_gallery`` wrote.

    Raises:
        ValueError: the file is missing or not one of ours.
    """
    path = Path(folder) / GALLERY_FILE
    require(path.is_file(), "folder", f"hold {GALLERY_FILE}", str(folder))
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            notes = json.loads(str(arrays["notes"]))
            return [_load_item(arrays, number, *note) for number, note in enumerate(notes)]
    except Exception as error:  # whatever a damaged or foreign file makes of zip, NumPy and JSON
        raise ValueError(f"`folder` must hold a {GALLERY_FILE} of sibx, but got {str(path)!r}: {error}") from error


def merge_galleries(galleries: Iterable[Sequence[GalleryItem]]) -> list[GalleryItem]:
    """Put the maps of the same image into one item; of a method's maps of the same training the last counts."""
    merged: dict[tuple[str, ...], GalleryItem] = {}
    for item in (item for gallery in galleries for item in gallery):
        known = merged.get(item.key, item).maps
        maps = {method: {**known.get(method, {}), **item.maps.get(method, {})} for method in {**known, **item.maps}}
        merged[item.key] = replace(item, maps=maps)
    return list(merged.values())


def _load_item(arrays: Mapping[str, Any], number: int, *note: Any) -> GalleryItem:
    dataset, split, model, name, class_name, names = note
    picture = arrays[f"{number}/picture"].astype(np.float32) / 255
    size = picture.shape[0] * picture.shape[1]
    mask = np.unpackbits(arrays[f"{number}/mask"], count=size).astype(bool).reshape(picture.shape[:2])
    maps: dict[str, dict[str, np.ndarray]] = {}
    for place, (method, training) in enumerate(names):
        maps.setdefault(method, {})[training] = arrays[f"{number}/{place}"].astype(np.float32)
    return GalleryItem(
        dataset=dataset,
        split=split,
        model=model,
        id=name,
        class_name=class_name,
        picture=picture,
        mask=mask,
        maps=maps,
    )


def _relative(heatmap: np.ndarray) -> np.ndarray:
    return relative(torch.from_numpy(np.ascontiguousarray(heatmap, dtype=np.float32))[None, None])[0, 0].numpy()
