"""Serves a workbench of the embedded images, with a small network that has learned a little.

Every line of the input starts a server anew, a process that can be killed; its number and address are said.
"""

import os
import signal
import sys
from pathlib import Path
from threading import Event

import torch

from sibx import TrainConfig, build_dataset, build_model, fine_tune
from sibx.app import Network, Workbench, serve
from sibx.app.workbench import _gradio
from sibx.cli.loading import from_checkpoint
from sibx.datasets import InMemoryDataset
from sibx.models.looking import Eye

SIZE = 32


def start(folder):
    """Train the network that the workbench starts with, and return its file."""
    torch.manual_seed(0)
    data = InMemoryDataset.load(build_dataset("synthetic", split="train", image_size=SIZE), range(128))
    config = TrainConfig(epochs=1, batch_size=16, learning_rate=5e-3, batch_norm="train")
    network = build_model("tiny_cnn", len(data.classes))
    fine_tune(network, data, config=config, out_dir=folder / "start", progress=False)
    return folder / "start" / "model.pt"


def bench(file, out_dir):
    """The workbench; nothing that is written lies beside its folder."""
    data = build_dataset("synthetic", split="test-id", image_size=SIZE)
    model = from_checkpoint(str(file), "tiny_cnn").model.eval()
    eye = Eye(model, torch.device("cpu"), data.normalization, SIZE)
    words = ("--checkpoint", str(file), "--model", "tiny_cnn")
    network = Network(name="start", eye=eye, classes=data.classes, options=words)
    options = ("--dataset", "synthetic")
    return Workbench(networks=(network,), data=data, options=options, methods=("gradcam",), out_dir=out_dir)


def answer(folder):
    """Serve until the process is killed."""
    file = folder / "start" / "model.pt"
    with serve(bench(file if file.is_file() else start(folder), folder / "out")) as address:
        print(os.getpid(), address, flush=True)
        Event().wait()


if __name__ == "__main__":
    torch.set_num_threads(1)
    _gradio()  # now, as every server would import it again
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a server that was killed leaves nothing behind
    for _ in sys.stdin:  # a server for every line, by a fork: all imports anew would take longer than its work
        if not os.fork():
            answer(Path(sys.argv[1]))
