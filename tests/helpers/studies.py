"""Studies in small, for the tests that run them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
RUN_ALL = str(ROOT / "benchmarks" / "run_all.py")
SMALL = ["--train-images=64", "--test_images", "3", "--perturbed-images=2", "--epochs", "1", "--threads", "1"]
FEW = ["--reliance-images=4", "--options", '{"synthetic": {"size": 64}}', "--device=cpu"]
# Two trainings of a moment each.
TINY = [
    *(*SMALL, *FEW, "--image-size=16", "--tune", '{"batch_size": 16}', "--trainings=[ce, sib]"),
    *("--methods=[saliency, gradcam]", "--controls=[control_random]", "--perturbed-images=1"),
    *("--localization=[foreground_focus]", "--faithfulness=[deletion]"),
]


def environment():
    """Coverage of a subprocess is not wanted; warnings are shown, not raised, in a user's run."""
    return {k: v for k, v in os.environ.items() if not k.startswith("COV_")}


def run(*arguments, cwd, launcher=()):
    command = [sys.executable, *launcher, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment(), check=False)
