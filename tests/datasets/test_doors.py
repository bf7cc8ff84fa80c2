"""What is no data set of sibx is refused at every door, with the way to make one of it."""

import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from sibx import (
    SIBConfig,
    TrainConfig,
    evaluate,
    evaluate_reliance,
    evaluate_robustness,
    fine_tune,
    fine_tune_as,
    self_masks,
)
from sibx.datasets import (
    CompositeDataset,
    InMemoryDataset,
    MaskedDataset,
    MosaicDataset,
    OnePerClass,
    Part,
    SyntheticDataset,
    collate,
)
from sibx.evaluation import label_scores
from sibx.images import Unchanged
from sibx.models import TinyCNN
from sibx.report import make_gallery

MODEL = TinyCNN(8, width=4)
GOOD = SyntheticDataset("train", 16, size=4)
DOORS = {
    "train_data": lambda data: fine_tune(MODEL, data, progress=False),
    "val_data": lambda data: fine_tune(
        MODEL, GOOD, val_data=data, config=TrainConfig(batch_size=4, epochs=1), progress=False
    ),
    "train_data of fine_tune_as": lambda data: fine_tune_as("sib", MODEL, data, progress=False),
    "dataset": lambda data: evaluate(MODEL, data, methods=["saliency"], metrics=["foreground_focus"]),
    "dataset of reliance": lambda data: evaluate_reliance(MODEL, data),
    "dataset of robustness": lambda data: evaluate_robustness(MODEL, data),
    "dataset of self_masks": lambda data: self_masks(MODEL, data, config=SIBConfig.recommended("self")),
    "dataset of label_scores": lambda data: label_scores(MODEL, data),
    "dataset of make_gallery": lambda data: make_gallery({"ce": MODEL}, data, methods=["saliency"]),
    "source": InMemoryDataset.load,
    "source of Part": lambda data: Part(data, [0]),
    "source of OnePerClass": OnePerClass,
    "source of MosaicDataset": MosaicDataset,
    "objects": lambda data: CompositeDataset(data, {"a": [torch.zeros(3, 9, 9)], "b": [torch.ones(3, 9, 9)]}),
}


class Nameless(MaskedDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return GOOD[index]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (TensorDataset(torch.zeros(4, 3, 16, 16), torch.zeros(4).long()), "TensorDataset"),
        (Subset(GOOD, [0, 1]), "Subset"),
        ([1, 2], "list"),
    ],
)
def test_the_error_names_wrap_and_what_came(door, data, kind):
    argument = door.split()[0]
    with pytest.raises(
        ValueError, match=rf"`{argument}` must be a data set of sibx: sibx\.wrap makes .* got a .*{kind}\."
    ):
        DOORS[door](data)


@pytest.mark.parametrize("door", DOORS)
def test_a_data_set_that_does_not_say_what_it_is_is_refused(door):
    with pytest.raises(ValueError, match=r"must say its name, split and classes .* without name, split, classes\."):
        DOORS[door](Nameless())


def test_without_a_normalization_images_are_what_the_model_sees():
    assert Nameless().normalization == Unchanged()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([(torch.zeros(3, 8, 8), 1, None)], "`samples` must be MaskedSamples of image, mask, .*, but got 'tuple'"),
        ([GOOD[0], SyntheticDataset("train", 24, size=1)[0]], "`samples` must have images of one shape in a batch"),
    ],
)
def test_samples_that_make_no_batch_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        collate(samples)


def test_a_part_knows_what_its_source_knows_without_reading():
    part = Part(GOOD, [3, 1, 1])
    assert [sample.id for sample in part] == [GOOD[i].id for i in (3, 1, 1)]
    assert [part.label_of(i) for i in range(3)] == [GOOD.label_of(i) for i in (3, 1, 1)]
    assert [part.group_of(i) for i in range(3)] == [GOOD[i].group for i in (3, 1, 1)]
    with pytest.raises(IndexError, match="index 3 is outside"):
        part[3]
