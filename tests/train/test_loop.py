"""fine_tune: every setting does what it says; data order; logs; choice of the model."""

import csv
import dataclasses
import random
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN
from sibx.models.checkpoint import load_checkpoint
from sibx.objectives import GuidanceConfig, SIBLoss
from sibx.runs.rng import restore_rng, rng_state, seed_rng
from sibx.train import TrainConfig, accuracy, fine_tune
from sibx.train.labels import labels_of
from sibx.train.logs import Board
from sibx.train.losses import build_loss
from sibx.train.order import epoch_plans, load
from sibx.train.step import Learner
from tests.helpers.objectives import every_term

GIVEN = every_term()


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=40))


@pytest.fixture(scope="module")
def val():
    return InMemoryDataset.load(SyntheticDataset("val", 32, size=24))


def network(norm="group"):
    torch.manual_seed(0)
    return TinyCNN(8, width=8, norm=norm)


def tune(data, val=None, net=None, **fields):
    extra = {k: fields.pop(k) for k in ("out_dir", "resume") if k in fields}
    config = TrainConfig(**{"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, **fields})
    return fine_tune(net or network(), data, config=config, val_data=val, progress=False, **extra)


def weights(result):
    return nn.utils.parameters_to_vector(result.model.parameters()).detach()


class TestOrder:
    def test_epochs_are_permutations_and_differ(self):
        plans = epoch_plans(TrainConfig(batch_size=8), 41)
        first, second = next(plans), next(plans)
        assert first.images.shape == (5, 1, 8)
        assert len(first.images.unique()) == 40
        assert not torch.equal(first.images, second.images)

    def test_a_function_of_seed_and_epoch(self):
        config = TrainConfig(batch_size=8, augmentation="flip_crop")
        everything = epoch_plans(config, 41)
        for _ in range(3):
            plan = next(everything)
        again = next(epoch_plans(config, 41, 2))
        assert again.epoch == plan.epoch == 2
        assert torch.equal(plan.images, again.images)
        assert torch.equal(plan.draws, again.draws)
        other = next(epoch_plans(dataclasses.replace(config, seed=1), 41, 2))
        assert not torch.equal(plan.images, other.images)

    def test_micro_batches_and_shares_cut_the_same_stream(self):
        whole = next(epoch_plans(TrainConfig(batch_size=12), 40))
        cut = next(epoch_plans(TrainConfig(batch_size=12, accumulate=2), 40))
        assert torch.equal(whole.images.flatten(), cut.images.flatten())
        assert torch.equal(whole.draws.flatten(0, 2), cut.draws.flatten(0, 2))
        shares = [cut.share(rank, 3) for rank in range(3)]
        assert torch.equal(torch.cat([s.images for s in shares], 2), cut.images)
        assert torch.equal(torch.cat([s.draws for s in shares], 2), cut.draws)
        assert torch.equal(cut.after(1).images, cut.images[1:])

    def test_balanced(self):
        labels = torch.tensor([0] * 900 + [1] * 60 + [3] * 40)
        (plan,) = (p for p, _ in zip(epoch_plans(TrainConfig(batch_size=100), labels), range(1), strict=False))
        counts = labels[plan.images.flatten()].bincount()
        assert counts[2] == 0
        for count in counts[[0, 1, 3]]:
            assert abs(int(count) - 1000 / 3) < 4 * (1000 * 2 / 9) ** 0.5  # four standard deviations

    def test_labels(self, data):
        source = SyntheticDataset("train", 32, size=40)
        assert torch.equal(labels_of(source), labels_of(data))
        assert torch.equal(labels_of(data), data.labels)

    def test_workers_load_the_same_even_from_random_data(self, data):
        class Noisy(InMemoryDataset):
            def __getitem__(self, index):
                noise = random.random() + np.random.rand() + torch.rand(1)
                return super().__getitem__(index)._replace(image=self.samples[index].image + noise)

        noisy = Noisy(data, data.samples)
        config = TrainConfig(batch_size=8, workers=1)
        plan = next(epoch_plans(config, len(noisy)))
        before = torch.get_rng_state()
        all_steps = [[b.images for b in step] for step in load(noisy, plan, config)]
        tail = [[b.images for b in step] for step in load(noisy, plan.after(3), config)]
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(a[0], b[0]) for a, b in zip(all_steps[3:], tail, strict=True))
        quiet = [step[0].images for step in load(data, plan, dataclasses.replace(config, workers=0))]
        assert not torch.equal(quiet[0], all_steps[0][0])

    def test_random_states(self):
        device = torch.device("cpu")
        seed_rng(7)
        random.gauss(0, 1)
        np.random.randn()
        state = rng_state(device)

        def draw():
            return [random.gauss(0, 1), np.random.randn(), np.random.rand(), float(torch.randn(()))]

        first = draw()
        restore_rng(state, device)
        assert draw() == first


class TestSteps:
    """Each setting against the same thing written out."""

    def by_hand(self, data, make_optimizer, rates, *, clip=None, ema=None, epochs=2):
        net = network().train()
        average = network()
        optimizer = make_optimizer(net.parameters())
        config = TrainConfig(batch_size=8)
        plans = epoch_plans(config, len(data))
        steps = [batch for _, plan in zip(range(epochs), plans, strict=False) for (batch,) in load(data, plan, config)]
        for rate, batch in zip(rates, steps, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            F.cross_entropy(net(batch.images), batch.labels).backward()
            if clip is not None:
                norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()
                for p in net.parameters():
                    p.grad *= min(1.0, clip / (float(norm) + 1e-6))
            optimizer.step()
            if ema is not None:
                for ours, theirs in zip(average.parameters(), net.parameters(), strict=True):
                    ours.data = ema * ours.data + (1 - ema) * theirs.data
        return nn.utils.parameters_to_vector((net if ema is None else average).parameters()).detach()

    def test_sgd_with_a_cosine(self, data):
        rates = [0.1 * (1 + np.cos(np.pi * t / 10)) / 2 for t in range(10)]
        expected = self.by_hand(data, lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=0.01), rates)
        result = tune(data, optimizer="sgd", momentum=0.8, weight_decay=0.01, schedule="cosine", learning_rate=0.1)
        assert torch.allclose(weights(result), expected, atol=1e-6)

    def test_clipping_and_a_constant_rate(self, data):
        expected = self.by_hand(data, lambda p: torch.optim.SGD(p, 0.1), [0.1] * 10, clip=0.05)
        fields = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}
        result = tune(data, clip_norm=0.05, learning_rate=0.1, **fields)
        assert torch.allclose(weights(result), expected, atol=1e-6)
        assert (weights(result) - weights(tune(data, learning_rate=0.1, **fields))).norm() > 1e-2

    def test_moving_average(self, data, val):
        expected = self.by_hand(data, lambda p: torch.optim.AdamW(p, 0.01, weight_decay=1e-4), [0.01] * 10, ema=0.8)
        result = tune(data, val, schedule="constant", ema=0.8)
        assert torch.allclose(weights(result), expected, atol=1e-6)
        assert result.history[-1]["val_accuracy"] == accuracy(result.model, val)

    def test_moving_average_takes_buffers_along(self, data):
        net = network("batch")
        config = TrainConfig(batch_size=8, batch_norm="train", ema=0.5)
        learner = Learner(net, build_loss(net, None, data), config, 3)
        learner.set_mode()
        (batch,) = next(load(data, next(epoch_plans(config, len(data))), config))
        before = net.features[1].running_mean.clone()
        learner.step([batch], 0)
        middle = (before + net.features[1].running_mean) / 2
        assert torch.allclose(learner.average.features[1].running_mean, middle)
        assert learner.average.features[1].num_batches_tracked == 1

    def test_accumulation_is_the_same_step_for_cross_entropy(self, data):
        whole, cut = (tune(data, accumulate=k, optimizer="sgd") for k in (1, 4))
        assert torch.allclose(weights(whole), weights(cut), atol=1e-6)
        for a, b in zip(whole.history, cut.history, strict=True):
            assert a == pytest.approx(b, abs=1e-5)

    def test_warm_up_interpolates_between_cross_entropy_and_the_objective(self, data):
        """With w(t) = t / 8 the gradient is that of CE + w (total - CE)."""
        config = TrainConfig(objective=GIVEN, epochs=2, batch_size=8, warm_up=1.6)
        (batch,) = next(load(data, next(epoch_plans(config, len(data))), config))
        found = []
        for objective, number in ((None, 0), (GIVEN, 0), (GIVEN, 2), (GIVEN, 8), (GIVEN, 9)):
            net = network()
            learner = Learner(net, build_loss(net, objective, data), config, 10)
            learner.set_mode()
            terms = learner.loss(net, batch, min(1.0, number / learner.warm_up_steps))
            terms["total"].backward()
            found.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
        ce, start, quarter, full, later = found
        assert torch.allclose(start, ce, atol=1e-6)
        assert torch.allclose(quarter, 0.75 * ce + 0.25 * full, atol=1e-6)
        assert torch.equal(full, later)
        assert (full - ce).norm() > 1e-2 * ce.norm()

    def test_gradient_norms_are_logged(self, data, tmp_path):
        """Once per epoch, as SIBLoss measures them, without a trace in the training."""
        options = {"objective": GIVEN, "batch_norm": "train", "augmentation": "none", "epochs": 2}
        logged, silent = (
            tune(data, None, network("batch"), log_gradient_norms=on, out_dir=tmp_path / str(on), **options)
            for on in (True, False)
        )
        assert torch.equal(weights(logged), weights(silent))
        names = {"norm_cross_entropy", "norm_foreground", "norm_background", "norm_background_swap"}
        for line, other in zip(logged.history, silent.history, strict=True):
            assert names == line.keys() - other.keys()
            assert all(line[name] > 0 for name in names)
        norms = pd.read_csv(tmp_path / "True" / "log.csv")["norm_background"].tolist()
        assert norms == pytest.approx([line["norm_background"] for line in logged.history], rel=1e-15)
        config = TrainConfig(objective=GIVEN, epochs=2, batch_size=8, augmentation="none")
        (batch,) = next(load(data, next(epoch_plans(config, len(data))), config))
        net = network("batch").train()
        expected = SIBLoss(GIVEN).gradient_norms(net, batch.images, batch.labels, batch.masks)
        assert logged.history[0]["norm_foreground"] == pytest.approx(expected["foreground"])
        assert not any(k.startswith("norm") for k in tune(data, epochs=1).history[0])

    def test_any_function_is_an_objective(self, data, tmp_path):
        """A scalar, a mapping or a NamedTuple of terms; the same steps as the loss that it is made of."""
        loss = SIBLoss(GIVEN)
        calls = {
            "scalar": lambda model, x, y, masks: loss(model, x, y, masks).total,
            "mapping": lambda model, x, y, masks: loss(model, x, y, masks)._asdict(),
            "terms": lambda model, x, y, masks: loss(model, x, y, masks),
        }
        ours = tune(data, objective=GIVEN)
        for name, call in calls.items():
            result = tune(data, objective=call, out_dir=tmp_path / name)
            assert torch.equal(weights(result), weights(ours)), name
            assert ("accuracy" in result.history[0]) == (name != "scalar")
            assert result.history[0]["total"] == ours.history[0]["total"]
        saved = load_checkpoint(tmp_path / "scalar" / "model.pt", network())["config"]
        assert saved["objective"].endswith("<lambda>")

    def test_what_is_no_objective(self, data):
        with pytest.raises(ValueError, match=r"`objective` must be settings of a loss of sibx, .* but got 'sib'"):
            TrainConfig(objective="sib")
        with pytest.raises(ValueError, match="`warm_up` must be 0 for a function"):
            TrainConfig(objective=lambda *_: 0, warm_up=1.0)
        with pytest.raises(
            ValueError, match=r"`objective` must return a scalar, or terms with a `total`, but got \['loss'\]"
        ):
            tune(data, objective=lambda *_: {"loss": torch.zeros(())})

    @pytest.mark.parametrize("objective", [None, GuidanceConfig("energy", 1.0), GuidanceConfig("background-swap", 1.0)])
    def test_whole_warm_up_from_zero(self, objective, data):
        """Over a single step the ramp is 0, so the step is one of cross-entropy."""
        results = [tune(data, objective=o, epochs=1, batch_size=40, warm_up=1.0) for o in (None, objective)]
        assert torch.allclose(*(weights(r) for r in results), atol=1e-6)

    @pytest.mark.parametrize("objective", [None, GuidanceConfig("energy-cam", 1.0), GIVEN])
    def test_bfloat16(self, objective, data):
        exact, half = (tune(data, objective=objective, amp=amp, epochs=4) for amp in (None, "bfloat16"))
        assert half.model.classifier.weight.dtype == torch.float32
        assert not torch.equal(weights(exact), weights(half))
        assert half.history[0]["total"] == pytest.approx(exact.history[0]["total"], rel=0.02)
        assert half.history[-1]["total"] < half.history[0]["total"]

    def test_one_cycle_leaves_the_momentum_of_sgd_alone(self, data):
        learner = Learner(network(), build_loss(network(), None, data), TrainConfig(optimizer="sgd", momentum=0.7), 10)
        assert learner.optimizer.param_groups[0]["momentum"] == 0.7


class TestChoice:
    def test_best_on_validation(self, data, val):
        result = tune(data, val, keep="best", epochs=6, learning_rate=0.05, schedule="constant")
        scores = [line["val_accuracy"] for line in result.history]
        assert accuracy(result.model, val) == max(scores)
        assert scores[-1] < max(scores)  # or this test shows nothing
        fewer = tune(data, val, epochs=1 + scores.index(max(scores)), learning_rate=0.05, schedule="constant")
        assert torch.equal(weights(result), weights(fewer))

    def test_patience(self, data, val):
        frozen = {"learning_rate": 0.0, "weight_decay": 0.0, "epochs": 9}
        assert len(tune(data, val, patience=2, **frozen).history) == 3
        assert len(tune(data, val, **frozen).history) == 9

    def test_test_time_data_decides_nothing_by_default(self, data, val):
        assert torch.equal(weights(tune(data, val)), weights(tune(data)))


class TestMixedBatches:
    def test_images_without_masks_count_for_cross_entropy_only(self, data):
        """Every second image has no mask; a run with none at all is cross-entropy."""
        nothing = torch.zeros(len(data), 1, 32, 32, dtype=torch.bool)
        some = torch.stack([s.mask for s in data.samples])
        some[::2] = False
        results = {
            name: tune(data.with_masks(masks) if masks is not None else data, objective=GIVEN)
            for name, masks in {"all": None, "some": some, "none": nothing}.items()
        }
        assert all(np.isfinite(r.history[-1]["total"]) for r in results.values())
        assert torch.allclose(weights(results["none"]), weights(tune(data)), atol=1e-5)
        assert results["none"].history[0]["background"] == 0
        assert 0 < results["some"].history[0]["background"] < 1
        assert not torch.allclose(weights(results["some"]), weights(results["all"]), atol=1e-5)


class TestLogs:
    def test_table(self, data, val, tmp_path):
        result = tune(data, val, objective=GIVEN, out_dir=tmp_path)
        with (tmp_path / "log.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [{k: float(row[k]) for k in line} for row, line in zip(rows, result.history, strict=True)] == [
            pytest.approx(line, nan_ok=True) for line in result.history
        ]
        assert sum(float(row["seconds"]) for row in rows) == pytest.approx(result.seconds)
        assert 0 <= float(rows[-1]["learning_rate"]) < 1e-2
        assert not list(tmp_path.glob("*.tmp"))

    def test_tensorboard(self, data, tmp_path, monkeypatch):
        written = []
        stub = types.ModuleType("torch.utils.tensorboard")

        class SummaryWriter:
            def __init__(self, folder, purge_step):
                written.append((folder, purge_step))

            def add_scalar(self, *scalar):
                written.append(scalar)

            def flush(self):
                pass

        stub.SummaryWriter = SummaryWriter
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stub)
        result = tune(data, out_dir=tmp_path, tensorboard=True)
        assert written[0] == (str(tmp_path / "tensorboard"), 1)
        assert ("total", result.history[1]["total"], 2) in written
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(ImportError, match="pip install tensorboard"):
            Board(tmp_path, 0)


class TestErrors:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"optimizer": "adam"}, "`optimizer` must be one of adamw, sgd, but got 'adam'"),
            ({"schedule": "cos"}, "`schedule` must be one of one-cycle, cosine, constant"),
            ({"keep": "first"}, "`keep` must be one of last, best"),
            ({"amp": "float8"}, "`amp` must be one of bfloat16, float16"),
            ({"momentum": 1.5}, r"`momentum` must lie in \[0, 1\], but got 1.5"),
            ({"ema": 2.0}, r"`ema` must lie in \[0, 1\]"),
            ({"warm_up": 4}, r"`warm_up` must lie in \[0, 3\], but got 4"),
            ({"accumulate": 3}, "`accumulate` must divide batch_size=64, but got 3"),
            ({"accumulate": 0}, "`accumulate` must be at least 1, but got 0"),
            ({"clip_norm": -1.0}, "`clip_norm` must be at least 0"),
            ({"patience": 0}, "`patience` must be at least 1"),
            ({"epochs": 1.5}, "`epochs` must be a whole number, but got 1.5"),
            ({"batch_size": True}, "`batch_size` must be a whole number, but got True"),
            ({"learning_rate": None}, "`learning_rate` must be a number, but got None"),
            ({"workers": -1}, "`workers` must be at least 0"),
        ],
    )
    def test_bad_configs(self, fields, message):
        with pytest.raises(ValueError, match=message):
            TrainConfig(**fields)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"keep": "best"}, "`val_data` must be given for keep='best' and for patience, but got None"),
            ({"patience": 1}, "`val_data` must be given for keep='best' and for patience, but got None"),
            ({"tensorboard": True}, "`out_dir` must be given for tensorboard=True, but got None"),
            ({"amp": "float16"}, "`amp` must be None or 'bfloat16' without a GPU, but got 'float16'"),
        ],
    )
    def test_settings_that_need_something(self, fields, message, data):
        with pytest.raises(ValueError, match=message):
            tune(data, **fields)
