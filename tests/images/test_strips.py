"""Pictures of a pixel's height or width: no way of bringing them to a network's size needs more memory than they do."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from sibx import wrap
from sibx.datasets import FolderDataset
from sibx.images.fitted_picture import fit_picture
from sibx.images.geometry import resize_and_center_crop

SIDE = 224
MOST = 3 * 4 * SIDE * SIDE  # numbers of a tensor; the whole strip of 5000 x 1, resized, has 3 * 224 * 1,120,000


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that is made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


@pytest.fixture(params=[(1, 5000), (5000, 1)], ids=["wide", "high"])
def strip(request, tmp_path):
    """A data set of one strip with its mask, listed in an index."""
    pixels = np.random.default_rng(0).integers(0, 255, (*request.param, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(np.where(pixels[..., 0] > 127, 255, 0).astype(np.uint8)).save(tmp_path / "m.png")
    (tmp_path / "index.csv").write_text("image,mask,label\na.png,m.png,x\n")
    return tmp_path


def test_of_a_data_set(strip):
    listed = FolderDataset(str(strip), "all", SIDE)
    items = [(str(strip / "a.png"), 0, str(strip / "m.png"))]
    with Largest() as largest:
        samples = [listed[0], wrap(items, mask=2, classes=1, image_size=SIDE)[0]]
        wrap(items, mask=2, classes=1, image_size=(SIDE, 50))
    assert largest.numbers <= MOST
    torch.testing.assert_close(samples[0].image, samples[1].image, atol=1e-5, rtol=0)  # normalized after, and before
    assert torch.equal(samples[0].mask, samples[1].mask)
    assert samples[0].image.shape == (3, SIDE, SIDE)


@pytest.mark.parametrize("fit", ["whole", "pad", "crop"])
def test_of_a_picture_that_is_explained(strip, fit):
    pixels = tv.to_dtype(tv.pil_to_tensor(Image.open(strip / "a.png")), torch.float32, scale=True)
    with Largest() as largest:
        seen = fit_picture(pixels, SIDE, fit)
        seen.back(torch.rand(1, 1, *seen.pixels.shape[1:]))
    assert largest.numbers <= MOST


@pytest.mark.parametrize("size", [(200, 20), (20, 200), (5, 1000), (12, 49), (10, 39)])
@pytest.mark.parametrize("masks", [False, True])
def test_what_is_cut_off_before_does_not_show(size, masks):
    picture = torch.rand(1, *size, generator=torch.Generator().manual_seed(0))
    picture = picture > 0.5 if masks else picture
    mode = InterpolationMode.NEAREST_EXACT if masks else InterpolationMode.BILINEAR
    whole = tv.center_crop(tv.resize(picture, [16], interpolation=mode, antialias=not masks), [16, 16])
    assert torch.equal(resize_and_center_crop(picture, 16, masks=masks), whole)
    assert torch.equal(resize_and_center_crop(picture, (16, 16), masks=masks), whole)
