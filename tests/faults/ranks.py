"""Runs that two processes share, of which one is killed."""

import os
import signal
import time
from datetime import timedelta

import torch.distributed as dist

from tests.faults.inject import died, in_a_child

RANKS = 2
LONGEST = 60.0  # seconds in which the rank that is left has to end


def start(run, folder, meeting, **options):
    """Fork the ranks; return their ids, once they have met at a file in the folder ``meeting``."""
    meeting.mkdir()

    def work(rank):
        dist.init_process_group(
            "gloo",
            init_method=f"file://{meeting / 'store'}",
            rank=rank,
            world_size=RANKS,
            timeout=timedelta(seconds=LONGEST),
        )
        (meeting / f"rank-{rank}").touch()
        run(folder, **options)
        dist.destroy_process_group()

    children = [in_a_child(lambda rank=rank: work(rank)) for rank in range(RANKS)]
    while len(list(meeting.glob("rank-*"))) < RANKS:
        time.sleep(0.002)
    return children


def run_on_two(run, folder, meeting):
    """Run to the end."""
    assert [died(child) for child in start(run, folder, meeting)] == [0, 0]


def kill_one(run, folder, meeting, rank, seconds):
    """Kill one rank after so many seconds; the other one must end by itself. Return whether it had not finished."""
    children = start(run, folder, meeting)
    time.sleep(seconds)
    os.kill(children[rank], signal.SIGKILL)
    killed = died(children[rank]) == signal.SIGKILL
    other = died(children[1 - rank], LONGEST)
    assert other in (0, -1), other  # an error that it names, or it had finished
    return killed
