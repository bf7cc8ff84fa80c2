"""Pictures that cannot be decoded are named."""

import io

import pytest
import torch
from PIL import Image

from sibx.images import to_pixels


@pytest.fixture
def damaged(tmp_path):
    path = tmp_path / "half.png"
    noise = torch.randint(256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(noise.numpy()).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    return path


def test_the_file_is_named(damaged):
    with (
        Image.open(damaged) as picture,
        pytest.raises(OSError, match=r"the picture .*half.png cannot be read"),
    ):
        to_pixels(picture)


def test_a_picture_without_a_file(damaged):
    picture = Image.open(io.BytesIO(damaged.read_bytes()))
    with pytest.raises(OSError, match="the picture without a file cannot be read"):
        to_pixels(picture)
