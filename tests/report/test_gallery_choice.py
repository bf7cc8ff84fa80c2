"""Which images a gallery shows."""

import pandas as pd
import pytest
import torch

from sibx.datasets import InMemoryDataset, build_dataset
from sibx.evaluation.columns import NO_CLASS
from sibx.models import TinyCNN
from sibx.report import class_by_class, make_gallery, wrong_ones
from sibx.report.gallery_choice import CANDIDATES


class Labels:
    """A data set of which nothing but labels is asked."""

    def __init__(self, labels):
        self.labels, self.asked = labels, 0

    def __len__(self):
        return len(self.labels)

    def label_of(self, index):
        self.asked += 1
        return self.labels[index]


@pytest.mark.parametrize("count", [1, 2, 5, 12, 100, 250])
def test_a_rare_class_is_seen(count):
    """Ten of 200 images are of class 1; spread over the set, twelve would show one or none of it."""
    labels = [int(i % 20 == 7) for i in range(200)]
    chosen = class_by_class(Labels(labels), count)
    assert len(chosen) == min(count, 200)
    assert chosen == sorted(set(chosen))
    rare = sum(labels[i] for i in chosen)
    assert rare == min(count // 2, 10)


def test_images_of_a_class_are_spread():
    chosen = class_by_class(Labels([0] * 50 + [1] * 50), 4)
    assert chosen == [0, 25, 50, 75]


def test_more_classes_than_images():
    assert class_by_class(Labels(list(range(40))), 4) == [0, 10, 20, 30]


def test_a_large_set_is_not_read_whole():
    data = Labels([0, 1] * 50_000)
    assert len(class_by_class(data, 6)) == 6
    assert data.asked == 6 * CANDIDATES


def image_rows(*classified, metrics=2):
    """Rows of images (label, predicted, confidence), of several metrics."""
    lines = [
        {"image_id": str(i), "photo": str(i), "label": label, "predicted": p, "confidence": c}
        for i, (label, p, c) in enumerate(classified)
        for _ in range(metrics)
    ]
    return pd.DataFrame(lines).assign(dataset="d", split="test")


def test_wrong_ones():
    rows = image_rows((0, 0, 0.9), (0, 1, 0.8), (1, 1, 0.7), (1, 0, 0.6), (0, 1, 0.5), (0, 0, float("nan")))
    assert wrong_ones(rows, 10) == [1, 3, 4, 5]  # a NaN among the scores is wrong as well
    assert wrong_ones(rows, 2) == [1, 3]  # one of every class first
    assert wrong_ones(rows, 0) == []


def test_scores_without_classes_are_not_wrong():
    assert wrong_ones(image_rows((0, NO_CLASS, 0.9)), 3) == []


def test_a_gallery_of_chosen_images():
    source = build_dataset("synthetic", split="test-id", image_size=32)
    data = InMemoryDataset.load(source, range(5))
    torch.manual_seed(0)
    items = make_gallery({"ce": TinyCNN(8)}, data, methods=["gradcam"], images=[3, 1])
    assert [item.id for item in items] == [data[3].id, data[1].id]
    for images in ([], [5], [-1]):
        with pytest.raises(ValueError, match=r"`images` must be indices in \[0, 4\]"):
            make_gallery({"ce": TinyCNN(8)}, data, methods=["gradcam"], images=images)
    with pytest.raises(ValueError, match="`images` must be at least 1"):
        make_gallery({"ce": TinyCNN(8)}, data, methods=["gradcam"], images=0)
