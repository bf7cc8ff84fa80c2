"""Small trees of data sets in the layouts in which they are published, and what is asked of all of them."""

import numpy as np
import pytest
import torch
from PIL import Image

HEIGHT, WIDTH = 20, 24  # of the pictures in the trees
SIDE = 20  # the central square of a picture holds its columns 2..21, as they are


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def save_picture(path, gray, size=(HEIGHT, WIDTH)):
    save(path, np.full((*size, 3), gray, dtype=np.uint8))


def shown(array):
    """What is seen of a picture at an image size of SIDE, (1, SIDE, SIDE)."""
    return torch.from_numpy(np.ascontiguousarray(array[None, :, 2:22]))


def gray(data, index):
    """The gray level of a picture of one color, to tell pictures apart."""
    return round(float(data.normalization.inverse(data[index].image).mean()) * 255)


def same_errors(build, tree, files, layout):
    """What every published set answers to a wrong root, split or tree."""
    with pytest.raises(ValueError, match=rf"`root` must be a folder laid out as {layout}.*nowhere'"):
        build(str(tree / "nowhere"))
    with pytest.raises(ValueError, match=rf"`root` must be a folder laid out as {layout}.* but got None"):
        build(None)
    with pytest.raises(ValueError, match="`split` must be one of train, val, test, but got 'all'"):
        build(str(tree), "all")
    for name in files:
        content = (tree / name).read_bytes()
        (tree / name).unlink()
        with pytest.raises(ValueError, match=rf"`root` must hold {name}, laid out as {layout}"):
            build(str(tree))
        (tree / name).write_bytes(content)
