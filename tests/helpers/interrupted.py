"""A training run that uses everything random and everything with a state; tests/train/test_checkpoints.py kills it.

``python -m tests.helpers.interrupted FOLDER N`` starts or resumes the run in FOLDER and kills it with SIGKILL, N times.
It forks, because most of a process's time would be the imports.
"""

import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import TinyCNN
from sibx.objectives import GradNorm
from sibx.train import TrainConfig, fine_tune
from tests.helpers.objectives import every_term

CONFIG = TrainConfig(
    objective=replace(every_term("self"), balance=GradNorm(3)),
    epochs=5,
    batch_size=8,
    accumulate=2,
    warm_up=2.5,
    clip_norm=1.0,
    ema=0.9,
    keep="best",
    balanced=True,
    augmentation="flip_crop",
    batch_norm="train",
    checkpoint_every=2,
)


class Dropout(TinyCNN):
    def forward(self, images):
        return self.classifier(nn.functional.dropout(self.features(images).mean((2, 3)), 0.3, self.training))


class Noisy(InMemoryDataset):
    """Every access draws from python's, numpy's and torch's generators."""

    def __getitem__(self, index):
        sample = self.samples[index]
        noise = random.random() + np.random.rand() + torch.rand(1)
        return sample._replace(image=sample.image + 0.1 * noise)


def data(split, size):
    source = InMemoryDataset.load(SyntheticDataset(split, 16, size=size))
    return Noisy(source, source.samples)


def train(folder, **options):
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    net = Dropout(8, width=4)
    return fine_tune(net, data("train", 64), val_data=data("val", 24), out_dir=folder, **{"config": CONFIG, **options})


def newest(folder):
    """Steps taken at the newest checkpoint, 0 without one."""
    return max((int(path.stem.split("-")[1]) for path in Path(folder).glob("checkpoint-*.pt")), default=0)


def kill_at_a_random_moment(work, progress, moment):
    """Start the work in a process of its own and kill it a moment after its next progress, a number of what it wrote.

    Returns whether it was killed, not finished before.
    """
    before = progress()
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    done = 0
    while progress() == before and not done:
        time.sleep(0.002)
        done, _ = os.waitpid(child, os.WNOHANG)
    if done:
        return False
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def kill_repeatedly(work, progress, times, longest):
    """Kill the work as often as asked; print the progress after every kill, or that it finished."""
    moments = random.Random(0)
    for _ in range(times):
        killed = kill_at_a_random_moment(work, progress, moments.uniform(0, longest))
        print(progress() if killed else "finished", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    data("train", 1)  # what every child needs, once
    run, kills = sys.argv[1:]
    kill_repeatedly(lambda: train(run, resume=True, progress=False), lambda: newest(run), int(kills), 0.3)
