"""The largest share of S-IB that costs nothing of what is monitored on validation data."""

import math
from dataclasses import replace

import pytest
import torch

from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN
from sibx.models.checkpoint import load_checkpoint
from sibx.objectives import GradNorm, Share, SIBConfig
from sibx.train import TrainConfig, accuracy, fine_tune
from sibx.train.choice import SHARES, at_share, choose_share

OBJECTIVE = replace(SIBConfig.recommended("self"), balance=Share())
CONFIG = TrainConfig(
    objective=OBJECTIVE, epochs=1, batch_size=4, learning_rate=1e-2, log_gradient_norms=False, monitor="accuracy"
)


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=12))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return TinyCNN(8, width=8)


@pytest.mark.parametrize(
    ("values", "monitor", "share"),
    [
        ((0.8, 0.8, 0.8, 0.8, 0.8), "val_accuracy", 0.4),
        ((0.8, 0.9, 0.8, 0.79, 0.78), "val_f1", 0.2),  # .01 below is allowed
        ((0.8, 0.7, 0.7, 0.7, 0.7), "val_accuracy", 0.0),
        ((0.8, 0.7, 0.8, 0.7, 0.7), "val_accuracy", 0.1),  # a smaller share that looks worse does not hide a larger one
        ((19 / 100, 18 / 100, 17 / 100, 17 / 100, 17 / 100), "val_accuracy", 0.05),  # exact in counts, not in binary
        ((0.5, 0.4, 0.51, 0.52, 0.6), "val_loss", 0.1),  # of a loss less is better
        ((0.8, 0.8, math.nan, 0.8, math.nan), "val_foreground_focus", 0.2),
        ((math.nan, 0.8, 0.8, 0.8, 0.8), "val_foreground_focus", 0.0),  # nothing to compare with
    ],
)
def test_largest_harmless_share(values, monitor, share):
    assert choose_share(dict(zip(SHARES, values, strict=True)), monitor).share == share


def test_trains_with_every_share_and_returns_the_chosen_one(data, net, tmp_path):
    result = fine_tune(net, data, config=CONFIG, val_data=data, choose_weight=True, out_dir=tmp_path, progress=False)
    choice = result.choice
    assert choice.monitor == "val_accuracy"
    assert tuple(choice.values) == SHARES
    assert choice == choose_share(choice.values, choice.monitor)
    for share in SHARES:
        alone = fine_tune(net, data, config=at_share(replace(CONFIG, monitor="auto"), share), progress=False)
        assert accuracy(alone.model, data) == choice.values[share]
        if share == choice.share:
            same = [torch.equal(a, b) for a, b in zip(alone.model.parameters(), result.model.parameters(), strict=True)]
            assert all(same)
    assert sorted(p.name for p in tmp_path.glob("share-*")) == sorted(f"share-{share:g}" for share in SHARES)
    load_checkpoint(tmp_path / "model.pt", net)
    assert torch.equal(net.classifier.weight, result.model.classifier.weight)
    with pytest.raises(ValueError, match="`out_dir` must hold no checkpoints of an earlier run"):
        fine_tune(net, data, config=CONFIG, val_data=data, choose_weight=True, out_dir=tmp_path, progress=False)


def test_an_interrupted_choice_goes_on(data, net, tmp_path):
    whole = fine_tune(net, data, config=CONFIG, val_data=data, choose_weight=True, progress=False)
    fine_tune(net, data, config=at_share(CONFIG, 0.0), val_data=data, out_dir=tmp_path / "share-0", progress=False)
    resumed = fine_tune(
        net, data, config=CONFIG, val_data=data, choose_weight=True, out_dir=tmp_path, resume=True, progress=False
    )
    assert resumed.choice == whole.choice
    assert torch.equal(resumed.model.classifier.weight, whole.model.classifier.weight)


def test_the_monitor_decides(data, net):
    """Where classes are unequal that is the balanced accuracy, of the epoch that was kept; or whatever is named."""
    rare = data.samples[0].label
    unequal = InMemoryDataset(data, [s._replace(label=0 if s.label == rare else 1) for s in data.samples])
    settings = replace(CONFIG, epochs=2, keep="best", monitor="auto")
    result = fine_tune(net, data, config=settings, val_data=unequal, choose_weight=True, progress=False)
    assert result.choice.monitor == "val_balanced_accuracy"
    rates = [line["val_balanced_accuracy"] for line in result.history]
    assert result.choice.values[result.choice.share] == rates[result.kept - 1] == max(rates)
    settings = replace(CONFIG, monitor=lambda model, data: float(len(data)))
    named = fine_tune(net, data, config=settings, val_data=unequal, choose_weight=True, progress=False).choice
    assert (named.share, named.monitor, set(named.values.values())) == (0.4, "val_monitor", {12.0})


def test_share_zero_is_cross_entropy_alone():
    plain = at_share(replace(CONFIG, warm_up=0.5), 0.0)
    assert plain.objective is None
    assert plain.epochs == CONFIG.epochs


@pytest.mark.parametrize(
    ("objective", "validated", "message"),
    [
        (
            None,
            True,
            r"`objective` must be a SIBConfig with balance=Share\(\.\.\.\) for choose_weight=True, .* got None",
        ),
        (replace(OBJECTIVE, balance=GradNorm()), True, r"`objective` must be a SIBConfig with balance=Share"),
        (OBJECTIVE, False, "`val_data` must be given for choose_weight=True, but got None"),
    ],
)
def test_nothing_to_choose(data, net, objective, validated, message):
    config = replace(CONFIG, objective=objective, monitor="auto")
    with pytest.raises(ValueError, match=message):
        fine_tune(net, data, config=config, val_data=data if validated else None, choose_weight=True, progress=False)
