"""Two runs never write into one folder, and the lock ends with its process."""

import fcntl
import os
import signal
import sys

import pytest

from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.evaluation import evaluate, evaluate_reliance
from sibx.models import TinyCNN
from sibx.runs import alone
from sibx.runs.alone import alone_in
from sibx.studies import Place, Study, run_study
from sibx.train import TrainConfig, fine_tune

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no locks there"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def data():
    return InMemoryDataset.load(SyntheticDataset("test-id", 16, size=4))


def tune(folder):
    config = TrainConfig(epochs=1, batch_size=2)
    return fine_tune(TinyCNN(8, width=2), data(), config=config, out_dir=folder, resume=True)


def score(folder):
    return evaluate(
        TinyCNN(8, width=2), data(), methods=["gradcam"], metrics=["pointing_game"], out_dir=folder, resume=True
    )


def rely(folder):
    return evaluate_reliance(TinyCNN(8, width=2), data(), backgrounds=["only_fg"], out_dir=folder, resume=True)


def study(folder):
    return run_study(Study(name=folder.name), Place(out=str(folder.parent), resume=True))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(alone, "PATIENCE", 0.1)


@pytest.mark.parametrize("second", [tune, score, rely, study])
def test_the_second_run_is_refused_and_changes_nothing(second, tmp_path):
    folder = tmp_path / "runs"
    refused = r"`out(_dir)?` must be the folder of one run at a time, but got '.*/runs, where another run writes"
    with alone_in(folder):
        (folder / "mine").touch()
        with pytest.raises(ValueError, match=refused):
            second(folder)
        assert [path.name for path in folder.iterdir()] == ["mine"]
    if second is not study:
        second(folder)  # now it may


def test_a_folder_in_which_nothing_came_is_removed_unless_it_was_there(tmp_path):
    with alone_in(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    with alone_in(tmp_path), alone_in(tmp_path / "inside"), alone_in(None):
        pass
    assert tmp_path.is_dir()


def test_the_lock_ends_with_its_process_not_with_its_children(tmp_path):
    """As where a run is killed whose loader workers have not noticed it."""
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        with alone_in(tmp_path):
            grandchild = os.fork()
            os.write(said, f"{grandchild} ".encode()) if grandchild else None
            signal.pause()
    grandchild = int(os.read(heard, 20))
    with pytest.raises(ValueError, match="one run at a time"), alone_in(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with alone_in(tmp_path):
        os.kill(grandchild, signal.SIGKILL)


def test_a_folder_that_is_replaced_while_waiting(tmp_path, monkeypatch):
    """The lock of a folder that its last owner has removed protects nothing."""
    folder, tried = tmp_path / "runs", []

    def flock(*arguments):
        if not tried:
            folder.rmdir()
        tried.append(arguments)

    monkeypatch.setattr(fcntl, "flock", flock)
    with alone_in(folder):
        assert folder.is_dir()
    assert len(tried) == 2


def test_where_the_file_system_has_no_locks_the_run_goes_on(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError("Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with alone_in(tmp_path), alone_in(tmp_path):
        pass
