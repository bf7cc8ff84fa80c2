"""The table of trainings: names, controls, and the layers that are filled in."""

from dataclasses import replace

import pytest
import torch

from sibx.datasets import InMemoryDataset, PackedMasks, SyntheticDataset
from sibx.models import TinyCNN
from sibx.objectives import CKA, GUIDANCE, Frozen, Given, Online, Shuffled, SIBConfig, self_masks
from sibx.studies.lessons import lesson, masks_of, precision, shuffled_order
from sibx.train import TRAININGS, TrainConfig, TrainingSpec, fine_tune

CONTROLLED = {name: spec for name, spec in TRAININGS.items() if spec.control}


def test_a_control_is_its_training_with_other_masks():
    assert set(CONTROLLED) >= {"sib", "sib-fixed", "sib-self", "sib-self-cut", "sib-self-fixed", "sib-online"}
    for name, spec in CONTROLLED.items():
        control = TRAININGS[spec.control]
        assert spec.control == f"{name}-shuffled"
        assert control.masks == Shuffled(spec.masks)
        assert control.objective == spec.objective
        assert name in control.title
    assert {name for name in TRAININGS if name.endswith("-shuffled")} == {s.control for s in CONTROLLED.values()}
    assert set(GUIDANCE) <= set(TRAININGS)
    assert {name for name in GUIDANCE if GUIDANCE[name].needs_masks} == set(GUIDANCE) & set(CONTROLLED)


def test_layers_are_filled_in_as_by_the_preset():
    layers = {"input": 1.0, "features.13": 5.0, "features.18": 2.0}
    for asked in ("auto", layers):
        for name, masks in {"sib": "given", "sib-self-cut": "self"}.items():
            assert TRAININGS[name].at(asked).objective == SIBConfig.recommended(masks, layers=asked)
    assert TRAININGS["sib-self"].at(layers).reading.masks.layer is None  # the last one
    assert TRAININGS["sib-self-cut-shuffled"].at(layers).masks.masks.layer == "features.13"
    assert TRAININGS["sib-published"].at(layers).objective == SIBConfig.published()
    assert TRAININGS["energy-cam"].at(layers).objective.layer == "auto"
    assert TRAININGS["ce"].at(layers) == TRAININGS["ce"]


def test_trainings_that_need_the_same_masks_read_them_alike():
    readings = {name: spec.at({"features.5": 1.0}).reading for name, spec in TRAININGS.items()}
    cut = readings["sib-self-cut"]
    same = {name for name, reading in readings.items() if reading == cut}
    assert same == {f"sib-self-{kind}{end}" for kind in ("cut", "fixed") for end in ("", "-shuffled")}
    assert readings["sib-self"] not in (cut, None)
    assert {name for name, reading in readings.items() if reading} == same | {"sib-self", "sib-self-shuffled"}


@pytest.fixture
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=16))


@pytest.mark.parametrize("name", CONTROLLED)
def test_a_control_learns_from_the_same_masks_in_another_order(name, data):
    torch.manual_seed(0)
    spec, control = (TRAININGS[n].at() for n in (name, TRAININGS[name].control))
    network = TinyCNN(8, width=4)
    own = PackedMasks([self_masks(network, data, config=spec.reading, progress=False)]) if spec.reading else None
    (learned, objective), (others, same) = (lesson(s, data, own, 0) for s in (spec, control))
    if not spec.from_outside:
        assert learned is others is data
        assert same == replace(objective, masks=Shuffled(objective.masks))
        return
    masks = masks_of(data) if own is None else own
    assert torch.equal(masks_of(learned)[:], masks[:])
    assert torch.equal(masks_of(others)[:], masks[:][shuffled_order(data.labels, 0)])
    assert objective == same
    assert not isinstance(objective, SIBConfig) or objective.masks == Given()
    assert precision(learned, data) == 1 or own is not None


def test_own_masks(data):
    torch.manual_seed(0)
    network = TinyCNN(8, width=4)
    fifth, cut = (
        self_masks(network, data, config=TRAININGS[name].at().reading, progress=False)
        for name in ("sib-self", "sib-self-cut")
    )
    assert fifth.double().mean() == pytest.approx(0.2, abs=1e-3)
    assert len(set(cut.flatten(1).sum(1).tolist())) > 8  # a size of its own for every image


def test_shuffled_masks_are_those_of_another_class():
    labels = torch.arange(32) % 8
    order = shuffled_order(labels, 3)
    assert sorted(order.tolist()) == list(range(32))
    assert (labels[order] != labels).all()
    assert not torch.equal(order, shuffled_order(labels, 4))


def test_a_training_of_ones_own(data):
    objective = SIBConfig(foreground=CKA(0.2), layers="auto", background=None)
    mine, control = TrainingSpec("mine", "mine", objective, Frozen(layer="features.8")).with_control()
    assert (mine.control, control.name) == (control.name, "mine-shuffled")
    assert mine.at().objective.masks == Frozen(layer="features.8")
    assert mine.at().objective.foreground == CKA(0.2)
    online = TrainingSpec("online", "", replace(objective, masks=Online()), Online())
    assert online.at().objective.masks == Online()
    config = TrainConfig(objective=control.at().objective, epochs=1, batch_size=8)
    torch.manual_seed(0)
    history = fine_tune(TinyCNN(8, width=4), data, config=config, progress=False).history
    assert history[0]["foreground"] > 0
