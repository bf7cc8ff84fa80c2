"""ImageNet-Segmentation: a small file of its form, and the map from WordNet ids to ImageNet's outputs."""

import pickle
import sys

import numpy as np
import pytest
import torch

from sibx import build_dataset, evaluate
from sibx.datasets.batches import load_batches
from sibx.models.class_map import imagenet_ids, read_class_map
from sibx.runs.identity import identify_data

h5py = pytest.importorskip("h5py")
SIDE = 20
NAMES = ["n02106662_13", "n01440764_2", "n02106662_5", "n09999999_1"]
CPU = torch.device("cpu")


def write(path, names=NAMES, gray=40):
    """Write pictures of one color, 20 x 40 pixels, the last one gray, with the object on the left."""

    def kept(array):
        cell = file.create_dataset(f"#refs#/{len(file['#refs#'])}", data=array)
        return cell.ref

    with h5py.File(path, "w") as file:
        file.create_group("#refs#")
        cells = {"img": [], "gt": [], "id": []}
        for number, name in enumerate(names):
            color = np.full((20, 40, 3), gray + number, np.uint8)  # as MATLAB has it, and below as it writes it
            mask = np.zeros((20, 40), np.uint8)
            mask[:, :20], mask[:10, 20:24] = 1, 2
            cells["img"].append(kept(color[..., 0].T if number == len(names) - 1 else color.transpose(2, 1, 0)))
            cells["gt"].append(kept(np.array([[kept(mask.T)]], dtype=h5py.ref_dtype)))
            cells["id"].append(kept(np.array([[ord(c)] for c in name], dtype=np.uint16)))
        for field, references in cells.items():
            if names[0] or field != "id":
                file[f"value/{field}"] = np.array(references, dtype=h5py.ref_dtype)[:, None]


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "gtsegs_ijcv.mat")
    return tmp_path


def build(root):
    return build_dataset("imagenet-segmentation", str(root), "test", SIDE)


def test_samples(root):
    data = build(root)
    assert data.classes == ("n01440764", "n02106662", "n09999999")
    assert [data.label_of(i) for i in range(4)] == [1, 0, 1, 2]
    assert len({data[i].id for i in range(4)}) == 4
    assert data[1].id == "0002 n01440764_2"
    for i in range(4):
        sample = data[i]
        pixels = data.normalization.inverse(sample.image)
        assert pixels.shape == (3, SIDE, SIDE)
        assert torch.allclose(pixels, torch.full_like(pixels, (40 + i) / 255), atol=1e-5)
        assert sample.label == data.label_of(i)
    left, void = torch.zeros(1, SIDE, SIDE).bool(), torch.zeros(1, SIDE, SIDE).bool()
    left[..., :10], void[:, :10, 10:12] = True, True
    assert torch.equal(sample.mask, left)
    assert torch.equal(sample.undefined, void)


def test_it_is_read_by_workers_and_known_by_its_content(root, tmp_path):
    data = build(root)
    (batch,) = load_batches(pickle.loads(pickle.dumps(data)), 4, workers=1)
    assert torch.equal(batch.images[2], data[2].image)
    same = identify_data(data, CPU)
    assert same == identify_data(build(root), CPU)
    write(root / "gtsegs_ijcv.mat", gray=50)
    assert identify_data(build(root), CPU)["sums"]["image"] != same["sums"]["image"]


def test_a_file_that_names_no_images(root):
    write(root / "gtsegs_ijcv.mat", names=["", ""])
    data = build(root)
    assert data.classes == ("unknown",)
    assert [data[i].id for i in range(2)] == ["0001", "0002"]


def test_errors(root, monkeypatch):
    with pytest.raises(ValueError, match=r"`root` must hold gtsegs_ijcv.mat, laid out as <root>/gtsegs_ijcv.mat"):
        build(root.parent)
    with pytest.raises(ValueError, match="`split` must be one of test, but got 'train'"):
        build_dataset("imagenet-segmentation", str(root), "train")
    path = root / "gtsegs_ijcv.mat"
    for content in (b"MATLAB 5.0 MAT-file", {}, {"value/img": np.zeros((2, 1))}, {"value/img/0": 1}):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            with h5py.File(path, "w") as file:
                file.update(content)
        with pytest.raises(OSError, match=r"gtsegs_ijcv.mat cannot be read as <root>/gtsegs_ijcv.mat \(MATLAB 7.3"):
            build(root)[0]
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"imagenet-segmentation needs h5py: pip install 'sibx\[segmentation\]'"):
        build(root)


def test_wordnet_ids_are_outputs_of_imagenet(root):
    """The same images, with the classes that the network has; the fourth is of none."""
    assert len(imagenet_ids()) == len(set(imagenet_ids())) == 1000
    assert read_class_map("wordnet", ["n01440764_tench", "x", "n02106662"]) == {0: (0,), 2: (235,)}
    torch.manual_seed(0)
    head = torch.nn.Sequential(torch.nn.AvgPool2d(SIDE), torch.nn.Flatten(), torch.nn.Linear(3, 1000)).eval()
    options = {"methods": ["control_center"], "metrics": ["foreground_focus"], "progress": False}
    with pytest.warns(UserWarning, match=r"1 of 4 samples are left out: class_map does not name \['n09999999'\]"):
        results = evaluate(head, build(root), class_map="wordnet", target="label", **options)
    assert len(results.rows) == 3
    assert results.info["class_map"] == {"n01440764": [0], "n02106662": [235]}
    assert len(evaluate(head, build(root), **options).rows) == 4
    with pytest.raises(ValueError, match=r"`class_map` must name an output for a class of \['cat'\]"):
        read_class_map("wordnet", ["cat"])
