"""Runs that die, or whose disk fails, before one file operation after the other; ``make faults`` does many more."""

import itertools
import time

import pytest
import torch

from tests.faults.inject import die, fail, faulty
from tests.faults.runs import RUNS, finetune, left_in, score
from tests.faults.trials import at_operation, two_in_one_folder

pytestmark = [
    pytest.mark.no_cover,  # the same lines again and again
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]


@pytest.fixture
def one_thread():
    """Of a process that is forked."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["fine-tune", "evaluate"])
def test_every_file_operation(name, tmp_path):
    """Every second one in turn: the process dies before it, and it fails."""
    run = RUNS[name]
    with faulty(tmp_path / "whole") as operations:
        run(tmp_path / "whole")
    count, expected = len(operations.seen), left_in(tmp_path / "whole")
    assert count > 20
    for nth, fault in zip(range(1, count + 1), itertools.cycle([die, fail])):
        at_operation(run, tmp_path / f"{nth}", nth, fault)
        assert left_in(tmp_path / f"{nth}") == expected, f"{fault.__name__} before {operations.seen[nth - 1]}"


@pytest.mark.parametrize("name", ["fine-tune", "evaluate"])
def test_two_in_one_folder(name, tmp_path):
    """The files are those of one of them, and the other one says why it has ended."""
    run = RUNS[name]
    expected = []
    for seed in range(2):
        run(tmp_path / f"whole-{seed}", seed)
        expected.append(left_in(tmp_path / f"whole-{seed}"))
    assert expected[0] != expected[1]
    assert two_in_one_folder(run, tmp_path / "both", expected) == 1


def test_a_clock_that_jumps(tmp_path, monkeypatch):
    for run in (finetune, score):
        run(tmp_path / f"{run.__name__}-whole")
    jumps, now = itertools.cycle([0.0, 1e9, -1e9, 1.0, -5e8]), time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    for run in (finetune, score):
        folder = tmp_path / run.__name__
        with pytest.raises(OSError, match="No space left"), faulty(folder, 12, fail):
            run(folder)
        run(folder)
        assert left_in(folder) == left_in(tmp_path / f"{run.__name__}-whole")
    lines = (tmp_path / "finetune" / "log.csv").read_text().splitlines()
    seconds = [float(line.split(",")[lines[0].split(",").index("seconds")]) for line in lines[1:]]
    assert all(0 < s < 100 for s in seconds)
