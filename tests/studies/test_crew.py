"""Who does which job, and in how many processes."""

import os

import pytest
import torch
from torch.distributed import HashStore

from sibx.cli import main
from sibx.studies import Study
from sibx.studies.board import Board
from sibx.studies.crew import assisted, count_places, limited_threads
from sibx.studies.study_bench import Workbench
from tests.helpers.studies import TINY


@pytest.fixture
def boards(tmp_path):
    """Two processes' views of the jobs of two groups: checkpoint, and one training each."""
    store, jobs = HashStore(), Study(trainings=["ce"], seed=[0, 1]).jobs()
    return [Board(store, number, tmp_path, jobs) for number in (0, 1)]


def finish(board, job):
    (board.folder / job.file).parent.mkdir(parents=True, exist_ok=True)
    (board.folder / job.file).touch()


def test_a_job_is_taken_once_and_after_what_it_needs(boards):
    one, two = boards
    first, second = one.take(), two.take()
    assert [job.name for job in (first, second)] == ["start", "start"]
    assert first.group != second.group
    assert one.take() is two.take() is None
    assert not two.is_over()  # the trainings wait
    finish(two, second)
    training = two.take()
    assert (training.name, training.group) == ("ce", second.group)
    finish(one, first)
    assert one.take().group == first.group
    assert one.is_over()
    assert two.is_over()
    assert not one.has_ended()
    for job in one.jobs:
        finish(one, job)
    assert one.has_ended()


def test_what_a_lost_process_had_taken_has_failed(boards):
    one, two = boards
    done, lost = one.take(), two.take()
    finish(one, done)
    one.give_up(1, "gone")
    assert lost.failure(one.folder) == "gone"
    assert one.ended == 3  # one done, one failed, one that waits for it
    assert not one.has_ended()
    assert one.take().name == "ce"
    lost.forgive(one.folder)
    assert lost.failure(one.folder) is None


@pytest.mark.parametrize(("gpus", "device", "places"), [(4, None, 4), (4, "cpu", 2), (0, None, 2), (4, "cuda:1", 1)])
def test_places(gpus, device, places, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert count_places(device) == places


def test_threads_are_as_before_after_the_block():
    before = torch.get_num_threads()
    with limited_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_block_without_helpers(boards):
    with assisted(boards[0], 0, print):
        pass
    with pytest.raises(RuntimeError, match="mine"), assisted(boards[0], 0, print):
        raise RuntimeError("mine")


def test_interrupted_by_the_user(tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Workbench, "do", interrupt)
    assert main(["study", *TINY, f"--out={tmp_path}", "--processes=1"]) == 130
    assert "sibx: interrupted; the same command with --resume goes on" in capsys.readouterr().err
