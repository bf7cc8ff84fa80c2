"""A run goes on only with the data that it began with: all of it, wherever it lies and whenever it was written."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sibx import evaluate, fine_tune, wrap
from sibx.datasets import (
    CompositeDataset,
    FolderDataset,
    InMemoryDataset,
    MosaicDataset,
    OnePerClass,
    OtherMasks,
    Part,
    Renormalized,
    SyntheticDataset,
)
from sibx.datasets.base import MaskedDataset
from sibx.datasets.some_classes import SomeClasses
from sibx.images import IMAGENET
from sibx.metrics import to_metric
from sibx.models import TinyCNN
from sibx.runs import identity
from sibx.runs.identity import check_identity, identify_data
from sibx.train import TrainConfig
from tests.helpers.several import Several

CPU = torch.device("cpu")
COUNT = 40  # many more than the samples that are read


@pytest.fixture
def root(tmp_path):
    """Pictures and masks of 8 x 8 pixels, listed in an index."""
    root = tmp_path / "data"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["image,mask,label,split"]
    for i in range(COUNT):
        picture, mask = rng.integers(0, 256, (8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
        mask[2:5, 2:6] = 255
        Image.fromarray(picture).save(root / f"images/{i}.png")
        Image.fromarray(mask).save(root / f"masks/{i}.png")
        lines.append(f"images/{i}.png,masks/{i}.png,{'ab'[i % 2]},train")
    (root / "index.csv").write_text("\n".join(lines))
    return root


def listed(root):
    """The same pictures as a data set of the user's own, which names files."""
    items = [(str(p), i % 2, [0.0, 0.0, 4.0, 4.0]) for i, p in enumerate(sorted((root / "images").iterdir()))]
    return wrap(items, mask=2, classes=["a", "b"])


def folder(root):
    return FolderDataset(str(root), "train", 8)


def age(root):
    """As if all files had been written an hour ago."""
    for path in root.rglob("*.*"):
        os.utime(path, ns=(path.stat().st_mtime_ns - 3600 * 10**9,) * 2)


def repaint(path):
    """Write a picture anew with a changed pixel, of the same size in bytes and at the same time, if possible."""
    before = path.stat()
    pixels = np.asarray(Image.open(path)).copy()
    pixels[7, 7] = 255 - pixels[7, 7]
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))


def relabel(root):
    index = root / "index.csv"
    index.write_text(index.read_text().replace("masks/1.png,b", "masks/1.png,a"))


CHANGES = {  # what changes of the second of forty images, which is none of the sixteen that are decoded
    "image": lambda root: repaint(root / "images/1.png"),
    "mask": lambda root: repaint(root / "masks/1.png"),
    "label": relabel,
}


@pytest.mark.parametrize("field", CHANGES)
def test_every_change_of_a_folder_is_named(root, field):
    before = identify_data(folder(root), CPU)
    CHANGES[field](root)
    with pytest.raises(ValueError, match=rf"`dataset` must be that of x, with sums\.{field} = '.{{64}}', but got"):
        check_identity({"dataset": identify_data(folder(root), CPU)}, {"dataset": before}, "x")


@pytest.mark.parametrize("kind", [folder, listed])
def test_what_was_copied_or_touched_is_the_same(root, kind, tmp_path):
    before = identify_data(kind(root), CPU)
    age(root)
    assert identify_data(kind(root), CPU, workers=1) == before  # of other processes, too
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert identify_data(kind(tmp_path / "copy"), CPU) == before


def test_files_that_did_not_change_are_read_once(root, monkeypatch):
    age(root)
    identify_data(folder(root), CPU)
    read = identity._read.cache_info().misses
    before = identify_data(folder(root), CPU)
    assert identity._read.cache_info().misses == read
    (root / "masks/1.png").touch()  # it may change once more at the same time, so it is read and not remembered
    assert identify_data(folder(root), CPU) == before
    assert identity._read.cache_info().misses == read


def synthetic(**options):
    return SyntheticDataset("train", 16, size=COUNT, **options)


def with_pixel(data, index=1):
    """The same samples in memory, one of them with another pixel."""
    samples = [data[i] for i in range(len(data))]
    image = samples[index].image.clone()
    image[0, 0, 0] += 1
    samples[index] = samples[index]._replace(image=image)
    return InMemoryDataset(data, samples)


DARK, BRIGHT = torch.zeros(3, 20, 20), torch.ones(3, 20, 20)
KINDS = {  # what makes a data set of another one
    "in memory": lambda data: data,
    "part": lambda data: Part(data, range(1, 30)),
    "some classes": lambda data: SomeClasses(data, [0, 1]),
    "other masks": lambda data: OtherMasks(data, torch.ones(COUNT, 1, 16, 16).bool()),
    "renormalized": lambda data: Renormalized(data, IMAGENET),
    "mosaic": lambda data: MosaicDataset(data, count=60),
    "composite": lambda data: CompositeDataset(data, {"d": [DARK], "b": [BRIGHT]}),
    "wrapped": lambda data: wrap(data, image="image", label="label", mask="mask", classes=8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_set_is_known_by_all_of_it(kind):
    make = KINDS[kind]
    here, same = (identify_data(make(with_pixel(synthetic(), index)), CPU) for index in (1, 1))
    assert here == same
    other = identify_data(make(InMemoryDataset.load(synthetic())), CPU)
    differing = {field for field, value in other["sums"].items() if value != here["sums"][field]}
    assert differing - {"samples"} == {"image"}


def kinds_of(kind):
    """All classes of sibx that are a kind of data set."""
    below = {found for child in kind.__subclasses__() for found in (child, *kinds_of(child))}
    return {found for found in below if found.__module__.startswith("sibx.")}


def test_every_kind_says_what_its_samples_are_made_of():
    """Otherwise all of them would be decoded before anything is computed."""
    silent = [kind.__name__ for kind in kinds_of(MaskedDataset) if kind.origin_of is MaskedDataset.origin_of]
    assert silent == []


def test_the_settings_of_a_data_set_count():
    known = [identify_data(data, CPU) for data in (synthetic(), synthetic(rho=0.8), synthetic(design="faint"))]
    known += [identify_data(OtherMasks(synthetic(), torch.zeros(COUNT, 1, 16, 16).bool()), CPU)]
    masks = torch.zeros(COUNT, 1, 16, 16).bool()
    masks[1, 0, 3, 3] = True
    known += [identify_data(OtherMasks(synthetic(), masks), CPU)]
    known += [identify_data(Part(synthetic(), indices), CPU) for indices in ([*range(39)], [1, 0, *range(2, 39)])]
    assert len({repr(each) for each in known}) == len(known)
    backgrounds = [{"d": [DARK], "b": [BRIGHT]}, {"d": [DARK], "b": [BRIGHT * 0.9]}]
    first, second = (identify_data(CompositeDataset(synthetic(), b), CPU) for b in backgrounds)
    assert first["sums"]["image"] != second["sums"]["image"]


def test_several_labels_and_random_samples():
    assert identify_data(OnePerClass(Several()), CPU) == identify_data(OnePerClass(Several()), CPU)
    noisy = wrap([(i, i % 2) for i in range(20)], image=lambda _: torch.rand(3, 4, 4), classes=2)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = identify_data(noisy, CPU)
    assert torch.equal(torch.rand(3), expected)  # the state of the generator is as it was
    assert identify_data(noisy, CPU) == first


class StopError(Exception):
    """The end of a run that is interrupted."""


def stop_after(count):
    """A metric that ends the evaluation in a later batch."""
    calls = iter(range(count))

    def mean(heatmaps, masks):
        if next(calls, None) is None:
            raise StopError
        return heatmaps.mean((1, 2, 3))

    return to_metric(mean)


@pytest.mark.parametrize("field", CHANGES)
def test_an_evaluation_does_not_go_on_with_other_data(root, field, tmp_path):
    def score(calls):
        options = {"methods": ["saliency"], "batch_size": 10, "out_dir": tmp_path / "out", "resume": True}
        return evaluate(TinyCNN(2, width=4), folder(root), metrics=[stop_after(calls)], progress=False, **options)

    torch.manual_seed(0)
    with pytest.raises(StopError):
        score(1)
    CHANGES[field](root)
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=rf"`dataset` must be that of the results in .*, with sums\.{field} = "):
        score(9)


def test_a_training_does_not_go_on_with_other_data(root, tmp_path):
    def train(resume):
        torch.manual_seed(0)
        config = TrainConfig(epochs=1, batch_size=20, checkpoint_every=1)
        data, out = folder(root), tmp_path / "out"
        fine_tune(TinyCNN(2, width=4), data, config=config, out_dir=out, resume=resume, progress=False)

    train(resume=False)
    CHANGES["image"](root)
    with pytest.raises(ValueError, match=r"`train_data` must be that of the checkpoint .*, with sums\.image = "):
        train(resume=True)


def test_what_is_held_in_memory_is_the_same_data(root):
    held = InMemoryDataset.load(folder(root))
    before = identify_data(held, CPU)
    assert before == identify_data(folder(root), CPU)
    held.samples[1] = held.samples[1]._replace(label=0)
    relabeled = identify_data(held, CPU)["sums"]
    assert {field for field, value in relabeled.items() if value != before["sums"][field]} == {"label"}
    flipped = InMemoryDataset.load(folder(root)).with_masks(torch.zeros(COUNT, 1, 8, 8).bool())
    changed = identify_data(flipped, CPU)["sums"]
    assert changed["image"] == before["sums"]["image"]
    assert changed["mask"] != before["sums"]["mask"]
