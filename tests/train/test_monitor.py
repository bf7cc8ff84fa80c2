"""What keep="best", patience and callbacks see: monitors, ties, the epochs that trade accuracy for focus."""

import csv
import math

import pytest
import torch
import torch.nn.functional as F

from sibx import SIBConfig, TrainConfig, explain, fine_tune
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.metrics import foreground_focus
from sibx.models import TinyCNN, classification_rates
from sibx.train import Callback, pareto
from sibx.train.epochs import best_epoch, epochs_since_better

NAN = math.nan


@pytest.fixture(scope="module")
def data():
    return InMemoryDataset.load(SyntheticDataset("train", 32, size=40))


@pytest.fixture(scope="module")
def val():
    """Unequal classes: five images of each of the first two, and one of each other."""
    source = InMemoryDataset.load(SyntheticDataset("val", 32, size=40))
    of_class = [[i for i in range(40) if source[i].label == k] for k in range(8)]
    return InMemoryDataset.load(source, [i for k in range(8) for i in of_class[k][: 5 if k < 2 else 1]])


def tune(data, val=None, **fields):
    extra = {k: fields.pop(k) for k in ("out_dir", "resume", "callbacks") if k in fields}
    torch.manual_seed(0)
    config = TrainConfig(**{"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, **fields})
    return fine_tune(TinyCNN(8, width=8), data, config=config, val_data=val, progress=False, **extra)


def logged(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def scores_of(model, data):
    with torch.no_grad():
        return model(torch.stack([s.image for s in data.samples]))


def test_every_epoch_says_all_rates(data, val, tmp_path):
    result = tune(data, val, log_focus=True, out_dir=tmp_path)
    line, scores = result.history[-1], scores_of(result.model, val)
    for name, value in classification_rates(scores, val.labels).items():
        if name == "recall":
            assert [line[f"val_recall[{c}]"] for c in val.classes] == value
        else:
            assert line[f"val_{name}"] == pytest.approx(value)
    assert line["val_loss"] == pytest.approx(F.cross_entropy(scores, val.labels).item(), rel=1e-5)
    assert line["val_worst_group"] <= line["val_accuracy"]
    maps = explain(result.model, torch.stack([s.image for s in val.samples]), "gradcam", val.labels)
    masks, undefined = (torch.stack([getattr(s, name) for s in val.samples]) for name in ("mask", "undefined"))
    expected = foreground_focus(maps, masks, undefined=undefined).nanmean()
    assert line["val_foreground_focus"] == pytest.approx(expected.item(), rel=1e-4)
    assert set(line) <= set(logged(tmp_path)[0])


def test_auto_is_the_balanced_accuracy_where_classes_are_unequal(data, val):
    assert tune(data, val, epochs=1).monitor == "val_balanced_accuracy"
    assert tune(data, data, epochs=1).monitor == "val_accuracy"
    assert tune(data, val, epochs=1, monitor="auroc").monitor == "val_auroc"


@pytest.mark.parametrize("monitor", ["balanced_accuracy", "worst_group", "foreground_focus", "auroc", "loss"])
def test_the_best_epoch_by_every_monitor_is_kept(monitor, data, val, tmp_path):
    fields = {"learning_rate": 0.05, "schedule": "constant", "epochs": 4}
    result = tune(data, val, keep="best", monitor=monitor, out_dir=tmp_path, **fields)
    values = [line[f"val_{monitor}"] * (-1 if monitor == "loss" else 1) for line in result.history]
    assert values[result.kept - 1] == max(values)
    shorter = tune(data, val, **fields | {"epochs": result.kept})
    assert torch.equal(scores_of(result.model, val), scores_of(shorter.model, val))
    kept = [float(row["kept"]) for row in logged(tmp_path)]
    assert kept == [float(epoch == result.kept) for epoch in range(1, 5)]


def test_a_function_is_monitored_and_sees_the_model(data, val):
    seen = []

    def monitor(model, given):
        assert given is val
        seen.append(float(scores_of(model.eval(), given).sum()))
        return [1.0, 3.0, 2.0][len(seen) - 1]

    result = tune(data, val, epochs=3, keep="best", monitor=monitor)
    assert [line["val_monitor"] for line in result.history] == [1, 3, 2]
    assert (result.kept, result.monitor) == (2, "val_monitor")
    assert float(scores_of(result.model, val).sum()) == seen[1]


def test_patience_looks_at_the_monitor(data, val):
    values = iter([0.5, 0.7, NAN, 0.6, 0.9])
    result = tune(data, val, epochs=5, patience=2, monitor=lambda *_: next(values))
    assert len(result.history) == 4


def test_a_monitor_that_is_never_a_number_is_said(data, val):
    with pytest.warns(UserWarning, match="val_monitor was NaN after every epoch; the last one is kept"):
        result = tune(data, val, keep="best", monitor=lambda *_: NAN)
    assert result.kept == 2


class TestOrderOfEpochs:
    def lines(self, *pairs):
        return [{"m": value, "val_loss": loss} for value, loss in pairs]

    def test_ties_go_to_the_lower_loss_then_to_the_later_epoch(self):
        assert best_epoch(self.lines((0.8, 0.5), (0.9, 0.6), (0.9, 0.4), (0.9, 0.5)), "m") == 2
        assert best_epoch(self.lines((0.9, 0.4), (0.9, 0.4), (0.8, 0.1)), "m") == 1
        assert best_epoch(self.lines((0.9, NAN), (0.9, 9.0)), "m") == 1

    def test_nan_is_never_best(self):
        assert best_epoch(self.lines((NAN, 0.1), (0.2, 0.5), (NAN, 0.0)), "m") == 1
        assert best_epoch(self.lines((NAN, 0.1)), "m") is None
        assert best_epoch([], "m") is None

    def test_less_loss_is_better(self):
        assert best_epoch(self.lines((0, 0.5), (0, 0.3), (0, 0.4)), "val_loss") == 1
        assert epochs_since_better(self.lines((0, 0.5), (0, 0.3), (0, 0.3)), "val_loss") == 1

    def test_pareto(self):
        points = [(0.9, 0.1), (0.8, 0.3), (0.7, 0.2), (0.8, 0.3), (NAN, 0.9), (0.5, 0.6)]
        history = [{"epoch": i, "val_accuracy": a, "val_foreground_focus": f} for i, (a, f) in enumerate(points)]
        assert [line["epoch"] for line in pareto(history)] == [0, 1, 3, 5]
        assert pareto([{"epoch": 1.0, "val_accuracy": 1.0}]) == []


class Recorder(Callback):
    """Writes down its calls, draws random numbers, and spoils the copy it is given."""

    def __init__(self, last=99):
        self.calls, self.last = [], last

    def on_start(self, model, epoch):
        self.calls.append(("start", epoch))

    def on_epoch(self, epoch):
        assert not epoch.model.training
        torch.rand(3)
        torch.nn.init.zeros_(epoch.model.classifier.weight)
        self.calls.append((epoch.number, epoch.best))
        return epoch.number == self.last

    def on_end(self, result):
        self.calls.append(("end", result.kept))


class TestCallbacks:
    def test_they_leave_no_trace(self, data, val):
        recorder = Recorder()
        watched = tune(data, val, callbacks=[recorder], monitor="loss")
        alone = tune(data, val, monitor="loss")
        assert watched.history == alone.history
        assert torch.equal(scores_of(watched.model, val), scores_of(alone.model, val))
        losses = [line["val_loss"] for line in alone.history]
        assert recorder.calls == [("start", 0), (1, True), (2, losses[1] <= losses[0]), ("end", 2)]

    def test_one_may_stop_and_a_resumed_run_stays_stopped(self, data, tmp_path):
        recorder = Recorder(last=2)
        result = tune(data, epochs=4, callbacks=[Callback(), recorder], out_dir=tmp_path)
        assert len(result.history) == 2
        assert recorder.calls[-1] == ("end", 2)
        again = Recorder()
        assert tune(data, epochs=4, callbacks=[again], out_dir=tmp_path, resume=True).history == result.history
        assert again.calls == [("start", 2), ("end", 2)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"monitor": "acc"}, "`monitor` must be one of auto, accuracy, .* loss, but got 'acc'"),
        ({"monitor": "loss"}, "`val_data` must be given for monitor and for log_focus"),
        ({"log_focus": True}, "`val_data` must be given for monitor and for log_focus"),
        ({"output": "raw", "criterion": len, "monitor": "auroc"}, "`monitor` must be 'loss' or a function for output="),
    ],
)
def test_errors(fields, message, data):
    with pytest.raises(ValueError, match=message):
        tune(data, **fields)


def test_worst_group_needs_groups(data, val):
    alone = InMemoryDataset(val, [s._replace(group=-1) for s in val.samples])
    assert "val_worst_group" not in tune(data, alone, epochs=1).history[0]
    with pytest.raises(ValueError, match="`monitor` must be something else for validation data without groups"):
        tune(data, alone, epochs=1, monitor="worst_group")


def test_a_single_score_and_focus_by_s_ib(val):
    two = InMemoryDataset(val, [s._replace(label=min(s.label, 1)) for s in val.samples])
    config = TrainConfig(objective=SIBConfig.recommended("given"), epochs=1, batch_size=4, monitor="foreground_focus")
    result = fine_tune(TinyCNN(1, width=8), two, config=config, val_data=two, progress=False)
    assert 0 <= result.history[0]["val_foreground_focus"] <= 1
    assert [line["epoch"] for line in result.pareto] == [1.0]
