"""One trial of each kind: a fault, then the same call again in peace; what is left is for the caller to compare."""

import contextlib
import os
import random
import signal
import time

from sibx.runs import alone
from tests.faults.inject import die, died, faulty, in_a_child
from tests.faults.runs import left_in


def at_operation(run, folder, nth, fault):
    """Run into a fault before the nth file operation, and go on; an operation that only fails leaves no draft."""

    def work():
        with faulty(folder, nth, fault):
            run(folder)

    if fault is die:
        assert died(in_a_child(work)) == signal.SIGKILL
    else:
        with contextlib.suppress(OSError):  # one that fails in vain, such as to clean up, may be passed over
            work()
        assert not list(folder.rglob("*.tmp"))
    run(folder)


def killed_at_random(run, folder, seconds, moments: random.Random):
    """Kill a run that takes so many seconds at a moment of it; go on; return whether it was killed before its end."""
    child = in_a_child(lambda: run(folder))
    time.sleep(moments.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    killed = died(child) == signal.SIGKILL
    run(folder)
    return killed


def two_in_one_folder(run, folder, expected):
    """Start two runs with different seeds at once; return how many came to their end, with their own files left."""

    def impatient(seed):
        alone.PATIENCE = 0.0  # otherwise the second waits until the first, which takes a moment, has ended
        run(folder, seed)

    ends = [died(child) for child in [in_a_child(lambda s=seed: impatient(s)) for seed in range(2)]]
    left = left_in(folder)
    winners = [seed for seed, end in enumerate(ends) if end == 0]
    assert [left == expected[seed] for seed in winners] == [True] * len(winners), ends
    assert set(ends) <= {0, -1}
    return len(winners)
