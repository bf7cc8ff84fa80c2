"""The largest share of S-IB that costs no accuracy on validation data."""

from dataclasses import replace

import pytest
import torch

from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN
from sibx.models.checkpoint import load_checkpoint
from sibx.objectives import GradNorm, Share, SIBConfig
from sibx.train import TrainConfig, accuracy, fine_tune
from sibx.train.choice import SHARES, at_share, largest_harmless

OBJECTIVE = replace(SIBConfig.recommended("self"), balance=Share())
CONFIG = TrainConfig(objective=OBJECTIVE, epochs=1, batch_size=4, learning_rate=1e-2, log_gradient_norms=False)


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=12))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return TinyCNN(8, width=8)


@pytest.mark.parametrize(
    ("accuracies", "share"),
    [
        ((0.8, 0.8, 0.8, 0.8, 0.8), 0.4),
        ((0.8, 0.9, 0.8, 0.79, 0.78), 0.2),  # .01 below is allowed
        ((0.8, 0.7, 0.7, 0.7, 0.7), 0.0),
        ((0.8, 0.7, 0.8, 0.7, 0.7), 0.1),  # a smaller share that looks worse does not hide a larger one
        ((19 / 100, 18 / 100, 17 / 100, 17 / 100, 17 / 100), 0.05),  # exact in counts, not in binary
    ],
)
def test_largest_harmless(accuracies, share):
    assert largest_harmless(dict(zip(SHARES, accuracies, strict=True))) == share


def test_trains_with_every_share_and_returns_the_chosen_one(data, net, tmp_path):
    result = fine_tune(net, data, config=CONFIG, val_data=data, choose_weight=True, out_dir=tmp_path, progress=False)
    choice = result.choice
    assert tuple(choice.accuracies) == SHARES
    assert choice.share == largest_harmless(choice.accuracies)
    for share in SHARES:
        alone = fine_tune(net, data, config=at_share(CONFIG, share), progress=False)
        assert accuracy(alone.model, data) == choice.accuracies[share]
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
    config = replace(CONFIG, objective=objective)
    with pytest.raises(ValueError, match=message):
        fine_tune(net, data, config=config, val_data=data if validated else None, choose_weight=True, progress=False)
