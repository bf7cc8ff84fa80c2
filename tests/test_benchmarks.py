"""benchmarks/run_all.py, from its command line, in small."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sibx import Results
from sibx.evaluation.results import CELL

ROOT = Path(__file__).parent.parent
SMALL = ["--train-images=64", "--test_images", "3", "--perturbed-images=2", "--epochs", "1", "--threads", "1"]


def run(*arguments, cwd):
    # Coverage of the subprocess is not wanted; warnings are shown, not raised, in a user's run.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV_")}
    command = [sys.executable, str(ROOT / "benchmarks" / "run_all.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_default_run_in_small(tmp_path):
    done = run(*SMALL, "--image-size", "32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    for text in ("worst group", "test-adversarial", "Foreground focus", "control_center", "sib-shuffled", "Gains"):
        assert text in done.stdout
    assert "explain and score" in done.stderr  # progress
    folder = tmp_path / "results" / "synthetic-tiny_cnn"
    results = Results.load(folder)
    cells = results.rows.groupby(list(CELL)).ngroups
    assert cells == 3 * 4 * 11 * 6
    assert {"summary.md", "montage-test-id.png", "sib-self.pt"} <= {p.name for p in folder.iterdir()}
    assert results.info["training_log"]["object_area_share"] == pytest.approx(0.24, abs=0.05)


@pytest.mark.slow
def test_real_photographs_in_small(tmp_path, shared_data):
    done = run(
        *SMALL,
        *("--dataset", "oxford-pets", "--root", str(shared_data / "oxford-iiit-pet-3"), "--model", "mobilenet_v2"),
        *("--weights", str(shared_data / "weights" / "mobilenet_v2_tf2ptq.pth"), "--image-size", "64"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Abyssinian" in str(
        Results.load(tmp_path / "results" / "oxford-pets-mobilenet_v2").rows["image_id"].unique()
    )


def test_errors_reach_the_user(tmp_path):
    done = run("--dataset", "oxford-pets", "--root", "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "`root` must be a folder laid out as" in done.stderr
    done = run("--dataset", "oxford-pet", cwd=tmp_path)
    assert "did you mean 'oxford-pets'" in done.stderr
