"""Broken pictures, found before a long run starts: by their headers at once, or by reading all samples."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset

from sibx.datasets.base import MaskedDataset
from sibx.images.reading import check_size, naming

THREADS = 8  # that look at headers: most of the time goes into waiting for the disk
NAMED = 10  # broken files that an error names; it counts all
Size = tuple[int, int]


def check_headers(root: Path, masks: Mapping[Path, Iterable[Path]]) -> None:
    """Require pictures whose headers can be read, and masks of the size of their pictures; nothing is decoded.

    Args:
        root: folder that names are relative to, in errors.
        masks: picture -> the files of its masks.

    Raises:
        OSError: pictures or masks that cannot be read.
        ValueError: masks of another size.
    """
    files = list(dict.fromkeys([*masks, *(mask for found in masks.values() for mask in found)]))
    with ThreadPoolExecutor(THREADS) as pool:
        headers = dict(zip(files, pool.map(_read_size, files), strict=True))
    broken = [f"{_name(root, file)} ({found})" for file, found in headers.items() if isinstance(found, str)]
    if broken:
        raise OSError(f"`root` must hold pictures that can be read, but got {_listed(broken, len(files))}.")
    sizes = {file: found for file, found in headers.items() if not isinstance(found, str)}
    wrong = [
        f"{_name(root, mask)} with {sizes[mask]} for {sizes[picture]}"
        for picture, found in masks.items()
        for mask in found
        if sorted(sizes[mask]) != sorted(sizes[picture])  # EXIF may turn one of them
    ]
    if wrong:
        raise ValueError(f"`root` must hold masks of their image's size, but got {_listed(wrong, len(files))}.")


def check_samples(data: MaskedDataset, workers: int = 0) -> None:
    """Require samples that can all be read, with images of finite values; every one is read once.

    Args:
        data: the data set.
        workers: number of processes that read; 0 = this one.

    Raises:
        ValueError: samples that cannot be read; up to ten are named, and all are counted.
    """
    found = DataLoader(_Problems(data), batch_size=None, num_workers=workers)
    problems = [problem for problem in found if problem]
    if problems:
        rule = "hold samples that can be read"
        raise ValueError(f"`dataset` must {rule}, but got {_listed(problems, len(data))} (split {data.split}).")


class _Problems(Dataset[str]):
    """What is wrong with every sample, "" where nothing is."""

    def __init__(self, data: MaskedDataset):
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> str:
        try:
            sample = self.data[index]
        except (OSError, ValueError) as error:
            return str(error)
        return "" if bool(sample.image.isfinite().all()) else f"{sample.id} with values that are not finite"


def _read_size(path: Path) -> Size | str:
    """Return height and width as a picture's header says, or what is wrong with it."""
    try:
        with naming(str(path)), Image.open(path) as picture:
            check_size(picture)
            return picture.height, picture.width
    except OSError as error:
        cause = error.__cause__
        return "no picture" if isinstance(cause, UnidentifiedImageError) else str(cause)


def _name(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix()


def _listed(problems: list[str], total: int) -> str:
    rest = [f"and {len(problems) - NAMED} more"] if len(problems) > NAMED else []
    return f"{len(problems)} of {total} that do not: {'; '.join([*problems[:NAMED], *rest])}"
