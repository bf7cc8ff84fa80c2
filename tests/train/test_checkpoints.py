"""A killed run resumes to the same bits; torn and foreign checkpoints are refused."""

import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sibx.models import TinyCNN
from sibx.models.checkpoint import load_checkpoint
from sibx.objectives import SIBConfig
from sibx.runs.identity import digest
from sibx.train import TrainConfig, fine_tune
from sibx.train.checkpoints import Checkpoints
from tests.helpers.interrupted import CONFIG, Dropout, data, train

# Of networks that are hardly trained here, SIBLoss rightly warns that their contributions have no stable sign.
pytestmark = pytest.mark.filterwarnings("ignore:SIBLoss. only")

ROOT = Path(__file__).parent.parent.parent
KILLS = 7
SHORT = TrainConfig(epochs=2, batch_size=16)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes to kill are forked")
def test_killed_runs_resume_to_the_same_bits(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    killed.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV_")} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.interrupted", str(killed), str(KILLS)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps = [int(line) for line in done.stdout.split() if line != "finished"]
    assert len(steps) >= 4, "the run is too short to be killed this often"
    assert any(step % 8 for step in steps), "no kill in the middle of an epoch"
    found, expected = train(killed, resume=True, progress=False), train(whole, progress=False)
    assert found.history == expected.history
    assert same(found.model.state_dict(), expected.model.state_dict())
    names = {"checkpoint-000000038.pt", "checkpoint-000000040.pt", "log.csv", "model.pt"}
    assert {p.name for p in killed.iterdir()} == {p.name for p in whole.iterdir()} == names
    assert rows(killed / "log.csv") == rows(whole / "log.csv")


def rows(path):
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"), progress=False)


class StopError(Exception):
    pass


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run that ended by an exception after its third checkpoint (six of 40 steps), and how it should have ended."""
    save, calls = Checkpoints.save, []

    def save_and_stop(self, steps, state):
        save(self, steps, state)
        calls.append(steps)
        if len(calls) == 3:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_stop)
        with pytest.raises(StopError):
            train(tmp_path, progress=False)
    return tmp_path


def files(folder):
    return sorted(p.name for p in folder.glob("checkpoint-*"))


class TestFiles:
    def test_two_are_kept_and_hold_plain_values(self, stopped):
        assert files(stopped) == ["checkpoint-000000004.pt", "checkpoint-000000006.pt"]
        content = torch.load(stopped / "checkpoint-000000006.pt", weights_only=True)
        assert content["state"]["position"]["step"] == 6
        assert set(content["state"]["learner"]) == {"model", "optimizer", "schedule", "scaler", "average", "objective"}
        assert set(content["state"]["ranks"][0]["rng"]) == {"python", "numpy", "torch"}

    def test_drafts_of_a_dead_process_are_removed(self, stopped):
        (stopped / "checkpoint-000000008.pt.123.tmp").write_bytes(b"half")
        train(stopped, resume=True, progress=False)
        assert files(stopped) == ["checkpoint-000000038.pt", "checkpoint-000000040.pt"]

    def test_a_finished_run_is_not_run_again(self, tmp_path):
        first, again = (train(tmp_path, resume=True, progress=False) for _ in range(2))
        assert first.history == again.history
        assert first.seconds == again.seconds
        assert same(first.model.state_dict(), again.model.state_dict())
        fresh = Dropout(8, width=4)
        load_checkpoint(tmp_path / "model.pt", fresh)
        assert same(fresh.state_dict(), first.model.state_dict())

    def test_settings_without_effect_may_change(self, stopped):
        config = dataclasses.replace(CONFIG, checkpoint_every=None)
        assert len(train(stopped, config=config, resume=True, progress=False).history) == 5

    def test_progress_goes_on_where_it_stopped(self, stopped, capsys, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        train(stopped, resume=True)
        assert "| 6/8" in capsys.readouterr().err

    def test_patience_is_remembered(self, tmp_path):
        config = dataclasses.replace(SHORT, epochs=9, patience=2, learning_rate=0.0, weight_decay=0.0, ema=None)
        lengths = [len(train(tmp_path, config=config, resume=True, progress=False).history) for _ in range(2)]
        assert lengths[0] == lengths[1] < 9


class TestTorn:
    @pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign"])
    def test_the_previous_one_is_used(self, damage, stopped, expected):
        path = stopped / "checkpoint-000000006.pt"
        content = path.read_bytes()
        if damage == "foreign":
            torch.save({"weights": torch.zeros(3)}, path)
        elif damage == "flipped":
            middle = content.index(bytes(torch.load(path, weights_only=True)["state"]["ranks"][0]["rng"]["torch"]))
            path.write_bytes(content[: middle + 99] + bytes([content[middle + 99] ^ 1]) + content[middle + 100 :])
        else:
            path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
        with pytest.warns(UserWarning, match=r"checkpoint-000000006.pt' cannot be read and is passed over"):
            resumed = train(stopped, resume=True, progress=False)
        assert same(resumed.model.state_dict(), expected.model.state_dict())
        assert resumed.history == expected.history

    def test_none_left(self, stopped):
        for path in stopped.glob("checkpoint-*.pt"):
            path.write_bytes(b"")
        with (
            pytest.warns(UserWarning, match="passed over"),
            pytest.raises(ValueError, match="`out_dir` must hold a checkpoint that can be read, but got"),
        ):
            train(stopped, resume=True, progress=False)

    def test_one_of_an_earlier_version_is_named_and_left(self, stopped):
        """It is whole, so it is neither passed over nor overwritten."""
        for path in stopped.glob("checkpoint-*.pt"):
            content = torch.load(path, weights_only=True)
            torch.save(content | {"format": "sibx-training-1"}, path)
        before = {path: path.read_bytes() for path in stopped.iterdir()}
        message = (
            r"`out_dir` must hold checkpoints of the format sibx-training-3, but got .* of the format sibx-training-1"
        )
        with pytest.raises(ValueError, match=message):
            train(stopped, resume=True, progress=False)
        assert {path: path.read_bytes() for path in stopped.iterdir()} == before

    def test_arbitrary_code_is_not_run(self, stopped):
        class Bomb:
            def __reduce__(self):
                return (os.mkdir, (str(stopped / "run"),))

        for path in stopped.glob("checkpoint-*.pt"):
            torch.save(Bomb(), path)
        with pytest.warns(UserWarning, match="passed over"), pytest.raises(ValueError, match="can be read"):
            train(stopped, resume=True, progress=False)
        assert not (stopped / "run").exists()


class TestForeign:
    @staticmethod
    def resume(folder, net=None, train_data=None, val_data=None, **fields):
        return fine_tune(
            net or Dropout(8, width=4),
            train_data or data("train", 64),
            config=dataclasses.replace(CONFIG, objective=None, **fields),
            val_data=val_data or data("val", 24),
            out_dir=folder,
            resume=True,
            progress=False,
        )

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("run")
        cls.resume(folder, epochs=4, warm_up=1.0)
        return folder

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"epochs": 5}, r"`config` must be that of the checkpoint .*, with epochs = 4, but got epochs = 5"),
            ({"ema": None}, r"`config` .* with ema = 0.9, but got ema = None"),
            ({"net": TinyCNN(8, width=8)}, r"`model` .* features.0.weight = 'torch.float32 \(4, 3, 5, 5\)', but got"),
            (
                {"net": TinyCNN(8, width=4, norm="group")},
                r"`model` .* with features.1.running_mean .* but got .* absent",
            ),
            ({"train_data": data("train", 65)}, r"`train_data` .* with images = 64, but got images = 65"),
            ({"train_data": data("val", 64)}, r"`train_data` .* with split = 'train', but got split = 'val'"),
            ({"val_data": data("val", 25)}, r"`val_data` .* with images = 24"),
        ],
    )
    def test_the_error_says_what_differs(self, changes, message, folder):
        with pytest.raises(ValueError, match=message):
            self.resume(folder, **{"epochs": 4, "warm_up": 1.0, **changes})

    def test_other_masks_are_other_data(self, folder):
        source = data("train", 64)
        flipped = source.with_masks(~torch.stack([s.mask for s in source.samples]))
        with pytest.raises(ValueError, match=r"`train_data` must be that of the checkpoint .*, with sums\.\w+ = "):
            self.resume(folder, train_data=flipped, epochs=4, warm_up=1.0)

    def test_another_start_matters_for_the_models_own_masks_only(self, folder, stopped):
        net = Dropout(8, width=4)
        assert self.resume(folder, net=net, epochs=4, warm_up=1.0).history
        with pytest.raises(ValueError, match=r"`model` must be that of the checkpoint .*, with starting weights = "):
            fine_tune(net, data("train", 64), config=CONFIG, val_data=data("val", 24), out_dir=stopped, resume=True)

    def test_another_objective(self, folder):
        with pytest.raises(ValueError, match=r"`config` .* with objective = None, but got objective = absent"):
            fine_tune(
                Dropout(8, width=4),
                data("train", 64),
                config=dataclasses.replace(CONFIG, objective=SIBConfig.recommended(), epochs=4, warm_up=1.0),
                val_data=data("val", 24),
                out_dir=folder,
                resume=True,
            )

    def test_a_second_run_does_not_overwrite_the_first(self, folder):
        with pytest.raises(ValueError, match=r"`out_dir` must hold no checkpoints of an earlier run \(resume=True"):
            train(folder, progress=False)

    def test_resuming_needs_a_folder(self):
        with pytest.raises(ValueError, match="`out_dir` must be given for resume=True, but got None"):
            train(None, resume=True, progress=False)


def test_digest_sees_every_bit():
    values = [
        *({"a": torch.zeros(2)}, {"b": torch.zeros(2)}, {"a": torch.zeros(2, 1)}, {"a": torch.zeros(2).double()}),
        *({"a": torch.tensor([0.0, -0.0])}, {"a": [0, 0]}, {"a": [[0], 0]}, {"a": [0, [0]]}, {"a": "[0, 0]"}, {}),
        *(torch.tensor(True), torch.tensor(1.0, dtype=torch.bfloat16)),
    ]
    assert len({digest(v) for v in values}) == len(values)
