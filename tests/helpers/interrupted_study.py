"""A study that tests/studies/test_running.py kills.

``python -m tests.helpers.interrupted_study FOLDER`` runs it once undisturbed, and once killed with SIGKILL after every
checkpoint, every model and every scored cell, a random moment later; it forks, because most of a process's time would
be the imports.
"""

import os
import sys
from pathlib import Path

import torch

from sibx.cli import main
from sibx.studies import closing
from tests.helpers.interrupted import kill_repeatedly

TRAININGS = ["ce", "sib-self"]
PARTS = ("masks-of-sib-self-part-2.pt", "masks-of-sib-self-part-6.pt")
WORDS = [
    *("--image-size=16", "--epochs=2", "--threads=1", "--test-images=3", "--perturbed-images=1", "--reliance-images=4"),
    *("--options", '{"synthetic": {"size": 64}}', "--tune", '{"batch_size": 16}', f"--trainings={TRAININGS}"),
    *("--methods=[saliency, gradcam]", "--controls=[control_random]"),
    *(
        "--localization=[foreground_focus]",
        "--faithfulness=[deletion]",
        "--batch-size=2",
        "--device=cpu",
        "--processes=1",
    ),
]


def study(out, *words):
    closing.write_report = lambda *_, **__: Path("report.html")  # is not asked for here
    assert main(["study", *WORDS, f"--out={out}", *words]) == 0


def milestones(out):
    """How much is on disk; a glob would stop where a folder vanishes."""
    return sum(name in files for _, _, files in os.walk(out) for name in ("start.pt", "model.pt", "run.json", *PARTS))


def in_a_process(work):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    in_a_process(lambda: study(folder / "undisturbed"))
    killed = folder / "killed"
    kill_repeatedly(lambda: study(killed, "--resume"), lambda: milestones(killed), 2 * len(TRAININGS) + 2, 0.5)
    in_a_process(lambda: study(killed, "--resume"))
