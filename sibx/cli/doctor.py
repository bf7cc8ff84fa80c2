"""``sibx doctor``: what is installed, on what it computes, which data it finds, and whether a map comes out."""

import platform
import time
from argparse import Namespace
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from sibx._checks import require
from sibx.attribution import explain
from sibx.cli.listing import aligned
from sibx.datasets import DATASETS, build_dataset
from sibx.models import build_model
from sibx.runs import named_device

OK, FAILED = 0, 1  # exit codes
PACKAGES = ("sibx", "torch", "torchvision", "captum")
FOR_DEVELOPERS = frozenset(("bench", "dev", "docs", "loops", "reference"))  # extras that no command needs
METHODS, SIDE, CLASSES = ("sib", "gradcam"), 32, 8  # of the self-test: a gradient and a CAM


def run(args: Namespace) -> int:
    """Print a line per finding; return 1 if the self-test fails."""
    device, root = named_device(args.device), args.root
    require(root is None or Path(root).is_dir(), "root", "be a folder", root)
    lines = [("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    lines += [(name, version(name)) for name in PACKAGES]
    lines += [("device", text) for text in _devices(device)]
    lines += [(f"extra {name}", text) for name, text in _extras()]
    lines += [("data", text) for text in _data(Path(root))] if root else [("data", "not looked for (--root FOLDER)")]
    print(aligned(lines), flush=True)
    try:
        print(f"\nself-test: {_test(device)}")
    except Exception as error:  # whatever it is, it is what the user has to know
        print(f"\nself-test FAILED: {type(error).__name__}: {error}")
        return FAILED
    return OK


def _devices(used: torch.device) -> Iterator[str]:
    yield f"{used} is used; {torch.get_num_threads()} threads on the CPU"
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        yield f"cuda:{number}: {found.name}, {found.total_memory / 2**30:.0f} GiB"


def _extras() -> Iterator[tuple[str, str]]:
    """Yield every extra for users with what it lacks."""
    needs: dict[str, list[Requirement]] = {}
    for need in map(Requirement, requires("sibx") or ()):
        for extra in _extras_of(need):
            needs.setdefault(extra, []).append(need)
    for extra, found in needs.items():
        lacking = [text for need in found if (text := _lack(need))]
        yield extra, f"pip install 'sibx[{extra}]' ({', '.join(lacking)})" if lacking else "installed"


def _extras_of(need: Requirement) -> list[str]:
    words = str(need.marker or "").split()
    named = [words[i + 2].strip("\"')") for i, word in enumerate(words) if word.strip("(") == "extra"]
    return [extra for extra in named if extra not in FOR_DEVELOPERS]


def _lack(need: Requirement) -> str:
    """Say what is wrong with a package, "" if nothing is."""
    try:
        found = version(need.name)
    except PackageNotFoundError:
        return f"{need.name} is missing"
    return "" if need.specifier.contains(found, prereleases=True) else f"{need.name} {found} is not {need.specifier}"


def _data(root: Path) -> Iterator[str]:
    """Yield the data sets that the folder, or a folder in it, is laid out as."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))]
    found = [(name, folder, count) for name in DATASETS for folder in folders if (count := _count(name, folder))]
    for name, folder, count in found:
        yield f"{name}: --root {folder} ({count} images in {DATASETS[name].splits[-1]})"
    if not found:
        yield f"nothing in {root} or the folders in it is laid out as a data set of sibx"


def _count(name: str, folder: Path) -> int:
    """Return how many images the last split has; 0 where the folder holds something else."""
    if name == "synthetic":  # it is drawn, wherever one looks
        return 0
    try:
        return len(build_dataset(name, str(folder), DATASETS[name].splits[-1], SIDE))
    except Exception:  # whatever a reader makes of the files of another data set
        return 0


def _test(device: torch.device) -> str:
    """Explain a drawn picture, and say how long that took.

    Raises:
        ValueError: a map with a value that is not finite, or that is zero everywhere.
    """
    start = time.perf_counter()
    torch.manual_seed(0)
    sample, model = build_dataset("synthetic", image_size=SIDE)[0], build_model("tiny_cnn", CLASSES).to(device)
    for method in METHODS:
        maps = explain(model, sample.image[None].to(device), method, 0)
        good = bool(maps.isfinite().all()) and bool((maps > 0).any())
        require(good, method, "give a finite map with a value above 0", maps)
    return f"{' and '.join(METHODS)} of a drawn picture on {device} in {time.perf_counter() - start:.1f} s: good"
