"""Many faults of every kind, and a table of what held: ``python -m tests.faults [--trials 20] [--out FILE]``.

Linux only; as root, disks that are full are real ones. A line of the table is printed when it is there; what did not
hold ends the program with what differs.
"""

import argparse
import contextlib
import csv
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from tests.faults.inject import die, died, fail, faulty, in_a_child
from tests.faults.ranks import kill_one, run_on_two
from tests.faults.runs import ONCE, RUNS, kind, left_in
from tests.faults.trials import at_operation, killed_at_random, two_in_one_folder

HEADINGS = ("run", "fault", "struck before the end", "same files in the end")


class Trials:
    """The trials of one run, each in a folder of its own; what it must leave is taken from a run in peace."""

    def __init__(self, name, room, count):
        self.name, self.run, self.room, self.count = name, RUNS[name], room / name, count
        self.moments = random.Random(0)
        self.run(self.room / "first")  # what every process does once, of which its children find it done
        begun = time.monotonic()
        with faulty(self.room / "whole") as operations:
            self.run(self.room / "whole")
        self.seconds, self.operations = time.monotonic() - begun, operations.seen
        self.expected = left_in(self.room / "whole")

    def same(self, folder, expected=None):
        left = left_in(folder)
        if self.name in ONCE:
            left = {name: content for name, content in left.items() if not name.endswith(".tmp")}
        expected = self.expected if expected is None else expected
        differing = [n for n in {**left, **expected} if left.get(n) != expected.get(n)]
        assert not differing, f"{self.name}, {folder}: {differing}"
        return True

    def at_random(self, name="random"):
        struck = same = 0
        while struck < self.count:
            folder = self.room / f"{name}-{same}"
            struck += killed_at_random(self.run, folder, self.seconds, self.moments)
            same += self.same(folder)
        return "killed at a random moment", struck, same

    def at_operations(self, fault, what):
        chosen = range(1, len(self.operations) + 1)
        if self.name == "study":  # the first one of every kind
            chosen = sorted({kind(what): nth for nth, what in reversed([*enumerate(self.operations, 1)])}.values())
        same = 0
        for nth in chosen:
            folder = self.room / f"{fault.__name__}-{nth}"
            at_operation(self.run, folder, nth, fault)
            same += self.same(folder)
        return f"{what} before a file operation", len(chosen), same

    def full_disk(self):
        """On a disk of so many pages it ends with an error; on a larger one it goes on."""
        struck = same = 0
        needed = sum(p.stat().st_size for p in (self.room / "whole").rglob("*") if p.is_file()) // 4096 + 4
        for pages in range(2, 2 + self.count):
            with disk(self.room / f"disk-{pages}", pages * max(1, needed // self.count)) as (folder, enlarge):
                child = in_a_child(partial(self.run, folder / "run"))
                struck += died(child) == -1
                enlarge()
                self.run(folder / "run")
                same += self.same(folder / "run")
        return "disk full (tmpfs)", struck, same

    def together(self):
        self.run(self.room / "other", 1)
        expected = [self.expected, left_in(self.room / "other")]
        ends = [two_in_one_folder(self.run, self.room / f"both-{n}", expected) for n in range(self.count)]
        return "two started at once in one folder: one is refused", ends.count(1), len(ends)

    def one_rank(self):
        begun = time.monotonic()
        run_on_two(self.run, self.room / "ranks", self.room / "meeting")
        seconds, expected = time.monotonic() - begun, left_in(self.room / "ranks")
        struck = same = 0
        while struck < self.count:
            folder, meeting = self.room / f"ranks-{same}", self.room / f"meeting-{same}"
            struck += kill_one(self.run, folder, meeting, same % 2, self.moments.uniform(0, seconds / 2))
            run_on_two(self.run, folder, meeting.with_name(f"{meeting.name}-again"))
            same += self.same(folder, expected)
        return "one of two ranks killed", struck, same

    def clock(self):
        jumps, now = itertools.cycle([0.0, 1e9, -1e9, 1.0, -5e8]), time.time
        time.time = lambda: now() + next(jumps)
        try:
            _, struck, same = self.at_random("clock")
        finally:
            time.time = now
        return "clock that jumps, and killed at a random moment", struck, same

    def all(self):
        """Yield lines of the table: kind of fault, how often it struck before the end, and the files were right."""
        yield self.at_operations(die, "killed")
        yield self.at_operations(fail, "disk full")
        if self.name in ONCE:
            return
        yield self.at_random()
        yield self.together()
        yield self.clock()
        if os.geteuid() == 0:
            yield self.full_disk()
        if self.name != "study":  # whose processes share jobs, not batches
            yield self.one_rank()


@contextlib.contextmanager
def disk(place, pages):
    """A disk of so many pages, and what makes it large."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={4096 * pages}", "tmpfs", place], check=True)
    try:
        yield place, lambda: subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
    finally:
        subprocess.run(["umount", place], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    with tempfile.TemporaryDirectory() as room:
        for name in asked.runs:
            trials = Trials(name, Path(room), asked.trials)
            for fault, struck, same in trials.all():
                lines.append((name, fault, struck, same))
                print(*lines[-1], sep=" | ", flush=True)
    with asked.out.open("w", newline="") if asked.out else contextlib.nullcontext(sys.stdout) as file:
        csv.writer(file, lineterminator="\n").writerows([HEADINGS, *lines])


if __name__ == "__main__":
    main()
