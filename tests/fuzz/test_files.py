"""Files after an accident: each is read, or refused with an error that says which file it was; nothing else happens."""

import io
import re
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sibx import Results
from sibx.cli.options import Parser
from sibx.cli.settings_file import with_config
from sibx.datasets import FolderDataset
from sibx.datasets.folder_masks import read_mask
from sibx.images.reading import Once, read_pixels
from sibx.models import TinyCNN
from sibx.models.checkpoint import load_checkpoint, save_checkpoint
from sibx.train.checkpoints import Checkpoints
from tests.helpers.fuzzing import cases
from tests.helpers.reports import make_results
from tests.helpers.strategies import damaged

ENDINGS = {"png": "RGBA", "jpeg": "RGB", "gif": "P", "bmp": "RGB", "tiff": "L", "webp": "RGB", "ppm": "RGB"}
INDEX = "image,mask,label,split,group\na.png,m.png,cat,train,0\nb.png,,dog,test,\n"
SETTINGS = "image_size: 32\nmethods: [sib, gradcam]\nsettings:\n  sib: {weight: 2.5}\nseed: null\nverbose: true\n"


def picture(kind):
    """Bytes of a small picture of this kind."""
    pixels = torch.randint(256, (9, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    stream = io.BytesIO()
    Image.fromarray(pixels.numpy()).convert(ENDINGS[kind]).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def attempt(read, path, says, error):
    """What is read of a file, or None where it is refused by this error, which has to say something of the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read(path)
        except error as refused:
            message = str(refused)
    assert re.search(says, message)
    return None


@cases(250)
@given(kind=st.sampled_from(sorted(ENDINGS)), data=st.data())
def test_pictures_and_masks(folder, kind, data):
    path = folder / f"picture.{kind}"
    path.write_bytes(data.draw(damaged(picture(kind))))
    pixels = attempt(read_pixels, path, path.name, OSError)
    mask = attempt(lambda p: read_mask(p, Once()), path, path.name, OSError)
    assert (pixels is None) >= (mask is None)  # what has colors has a mask
    if pixels is not None:
        assert pixels.dtype == torch.float32
        assert pixels.shape[0] == 3
        assert ((pixels >= 0) & (pixels <= 1)).all()
        assert mask.shape == pixels[:1].shape


@cases(60)
@given(content=damaged(INDEX.encode()))
def test_index(folder, content):
    root = folder / "data"
    root.mkdir(exist_ok=True)
    for name in ("a.png", "b.png", "m.png"):
        (root / name).write_bytes(picture("png"))
    (root / "index.csv").write_bytes(content)
    for split in ("train", "test"):
        data = attempt(lambda p, s=split: FolderDataset(p, split=s, image_size=8), root, "`(root|split)`", ValueError)
        assert data is None or all(entry.image.is_file() and entry.label for entry in data.entries)


@cases(60)
@given(content=damaged(SETTINGS.encode()))
def test_settings(folder, content):
    path = folder / "settings.yaml"
    path.write_bytes(content)
    words = attempt(lambda p: with_config(Parser(), ["study", "--config", str(p)]), path, path.name, ValueError)
    assert words is None or all(isinstance(word, str) for word in words)


@cases(80)
@given(name=st.sampled_from(["results.csv.gz", "curves.csv.gz", "run.json"]), data=st.data())
def test_results(folder, saved, name, data):
    for file, content in saved.items():
        (folder / file).write_bytes(content)
    (folder / name).write_bytes(data.draw(damaged(saved[name])))
    found = attempt(lambda p: Results.load(p.parent), folder / name, name, ValueError)
    assert found is None or len(found.summary())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = make_results(images=2, curves=True).save(tmp_path_factory.mktemp("saved"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def network():
    return TinyCNN(num_classes=2, width=4)


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    save_checkpoint(path, network, classes=("a", "b"))
    return path.read_bytes()


@cases(60)
@given(data=st.data())
def test_weights(folder, weights, network, data):
    """Those of another file, or none: a network never has a part of them."""
    path, before = folder / "model.pt", [p.clone() for p in network.state_dict().values()]
    path.write_bytes(data.draw(damaged(weights)))
    if attempt(lambda p: load_checkpoint(p, network), path, path.name, ValueError) is None:
        assert all(torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))


@cases(40)
@given(data=st.data())
def test_checkpoints(folder, data):
    """One that was damaged is never taken for a whole one."""
    place, state = folder / "run", {"step": 3, "weights": torch.arange(6.0)}
    checkpoints = Checkpoints(place, {"model": "tiny"})
    checkpoints.save(3, state)
    (path,) = checkpoints.files()
    whole = path.read_bytes()
    content = data.draw(damaged(whole))
    path.write_bytes(content)
    found = attempt(lambda p: Checkpoints(place, {"model": "tiny"}).load(), path, path.name, ValueError)
    assert found is None or (found["step"] == 3 and torch.equal(found["weights"], state["weights"]))
