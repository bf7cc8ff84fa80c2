"""Agreement of trainings: the slow form, its control, what is alike whatever the network, and what is refused."""

from itertools import combinations

import pytest
import torch
from scipy.stats import spearmanr

from sibx import build_model, explain
from sibx.datasets import InMemoryDataset
from sibx.evaluation import evaluate_agreement


@pytest.fixture
def few(shapes):
    return InMemoryDataset(shapes, shapes.samples[:2])


def networks(count):
    nets = []
    for seed in range(count):
        torch.manual_seed(seed)
        nets.append(build_model("tiny_cnn", 8).train(seed != 1))
    return nets


def test_agreement_is_the_mean_over_pairs(few):
    nets = networks(3)
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in nets]
    methods = ["input_x_gradient", "saliency", "control_edges"]
    results = evaluate_agreement(nets, few, methods=methods, labels={"training": "ce"}, progress=False)
    values = results.rows.pivot(index=["method", "image_id"], columns="metric", values="value")
    for method in methods:
        for sample in few.samples:
            maps = [explain(net, sample.image[None], method, sample.label).flatten().numpy() for net in nets]
            slow = sum(spearmanr(a, b).statistic for a, b in combinations(maps, 2)) / 3
            assert values.loc[(method, sample.id), "between_trainings"] == pytest.approx(slow, abs=1e-5)
    difference = values["between_trainings"] - values["with_untrained"]
    assert values["beyond_untrained"].to_numpy() == pytest.approx(difference.to_numpy())
    assert values.loc["control_edges", "with_untrained"].to_numpy() == pytest.approx(1)  # which sees no network
    assert values.loc["control_edges", "beyond_untrained"].to_numpy() == pytest.approx(0)
    assert (values.loc["saliency", "with_untrained"].abs() < 0.999).all()
    assert set(results.rows["training"]) == {"ce"}
    assert [net.training for net in nets] == [True, False, True]
    assert all(
        torch.equal(v, old[k]) for net, old in zip(nets, before, strict=True) for k, v in net.state_dict().items()
    )


def test_the_same_training_twice_agrees_and_silence_is_undefined(few):
    (net,) = networks(1)
    silent = networks(2)[1]
    for parameter in silent.parameters():
        parameter.data.zero_()
    options = {"methods": "input_x_gradient", "progress": False}
    same = evaluate_agreement([net, net], few, **options).where(metric="between_trainings").rows
    assert same["value"].to_numpy() == pytest.approx(1)
    assert evaluate_agreement([net, silent], few, **options).rows["value"].isna().all()


def test_errors(few):
    with pytest.raises(ValueError, match=r"`models` must be two or more torch\.nn\.Modules"):
        evaluate_agreement(networks(1), few, methods="saliency")
    other = build_model("tiny_vit", 8)
    with pytest.raises(ValueError, match="`models` must have parameters of the same names and shapes, but got"):
        evaluate_agreement([*networks(1), other], few, methods="saliency")
