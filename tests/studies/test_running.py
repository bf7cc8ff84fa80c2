"""Studies from their command line, in small: what they write, and what happens when something goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sibx import Results
from sibx.cli import main
from sibx.evaluation import CELL
from sibx.images import BACKGROUNDS
from sibx.studies.scores import Scorer
from tests.helpers.studies import FEW, ROOT, RUN_ALL, SMALL, TINY, environment, run
from tests.helpers.trees import HEIGHT, WIDTH, save, save_picture

NAME = "synthetic-tiny_cnn"
CELLS = Path("cells", NAME)


def study(*words):
    return main(["study", *words])


@pytest.mark.slow
def test_default_run_in_small(tmp_path):
    few = (*SMALL, *FEW, "--image-size=32", "--test-images=2", "--perturbed-images=1")
    done = run(RUN_ALL, *few, "--processes=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    own = "sib-self-cut - sib-self-cut-shuffled"
    for text in ("worst group", "test-adversarial", "foreground_focus", own, "Gains"):
        assert text in done.stdout
    heading = next(line for line in done.stdout.splitlines() if line.startswith("| claim"))
    order = ["foreground_focus", "foreground_lift", "background_suppression", "pointing_game", "deletion", "insertion"]
    assert heading.replace("|", " ").split()[1:] == order  # as the study names them
    assert "of 13 jobs" not in done.stderr  # a bar is for terminals
    folder = tmp_path / "results" / NAME
    results = Results.load(folder)
    scores = 12 * 6 + 2 + len(BACKGROUNDS)  # of the maps; of the classifier: as it is, gap, and all backgrounds
    assert results.rows.groupby(list(CELL), observed=True).ngroups == 3 * 4 * scores
    original = results.where(metric="original", training="sib-self-cut", split="test-id").rows
    assert original["image_id"].nunique() == len(original) == 64
    assert set(results.curves["curve"]) == {"deletion", "insertion"}
    assert {"summary.md", "report.html", "report.md", "gallery.npz"} <= {p.name for p in folder.iterdir()}
    assert {"start", "ce", "sib-self-cut"} <= results.info["training_log"].keys()
    assert all("history" in entry for entry in results.info["training_log"].values())
    assert 0 < results.info["training_log"]["sib-self-cut"]["mask_precision"] < 1
    assert results.info["training_log"]["sib"]["mask_precision"] == 1
    left_behind = [p for pattern in ("*training", "masks-*", "*.tmp", "*error.txt") for p in folder.rglob(pattern)]
    assert not left_behind


@pytest.mark.slow
def test_real_photographs_in_small(tmp_path, brief, shared_data):
    weights = str(shared_data / "weights" / "mobilenet_v2_tf2ptq.pth")
    config = str(ROOT / "benchmarks" / "studies" / "pets_mobilenet.yaml")
    words = ("--config", config, "--root", str(shared_data / "oxford-iiit-pet-3"), "--weights", weights)
    few = ("--methods=[sib, gradcam]", "--trainings=[ce, sib-self-cut]", "--reliance-images=2", "--image-size=64")
    assert study(*words, *SMALL, *few, "--processes=1", f"--out={tmp_path}") == 0
    results = Results.load(tmp_path / "oxford-pets-mobilenet_v2")
    assert "Abyssinian" in str(results.rows["image_id"].unique())
    assert str(shared_data) not in json.dumps(results.info)


def test_errors_reach_the_user(tmp_path, capfd):
    words = ["--dataset", "oxford-pets", "--root", "nowhere", "--trainings=[ce]", "--processes=1"]
    assert study(*words, f"--out={tmp_path}") == 1
    printed = capfd.readouterr().err
    assert "`root` must be a folder laid out as" in printed
    assert "FAILED, 1 of 2 jobs" in printed
    assert "1 others need these and were not tried" in printed
    assert study("--dataset", "oxford-pet") == 2
    assert "did you mean 'oxford-pets'" in capfd.readouterr().err


@pytest.mark.slow
def test_killed_and_run_again_gives_the_same_bytes(tmp_path):
    done = run("-m", "tests.helpers.interrupted_study", str(tmp_path), cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    kills = [line for line in done.stdout.splitlines() if line.isdigit()]
    assert len(kills) >= 4
    assert len(set(kills)) >= 3  # at different stages; a kill may throw a study back to one that it had left
    undisturbed, killed = (tmp_path / name / NAME for name in ("undisturbed", "killed"))
    for name in ("results.csv.gz", "curves.csv.gz", "summary.md"):
        assert (undisturbed / name).read_bytes() == (killed / name).read_bytes()
    assert not [p for pattern in ("*training", "*.tmp", "masks-*") for p in killed.rglob(pattern)]


@pytest.mark.slow
def test_processes_give_the_rows_of_one(tmp_path, brief):
    own = "--trainings=[ce, sib-self-cut]"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = run(RUN_ALL, *TINY, own, cwd=tmp_path, launcher=launcher)
    assert done.returncode == 0, done.stderr[-2000:]
    assert study(*TINY, own, f"--out={tmp_path / 'two'}", "--processes=2") == 0
    assert study(*TINY, own, f"--out={tmp_path / 'one'}", "--processes=1") == 0
    for name in ("results.csv.gz", "curves.csv.gz", "summary.md"):
        one, two, ranks = ((tmp_path / place / NAME / name).read_bytes() for place in ("one", "two", "results"))
        assert one == two == ranks


@pytest.mark.slow
def test_interrupted_with_its_helpers_and_continued(tmp_path, brief):
    words = [*TINY, "--seed", "0", "1", f"--out={tmp_path}", "--resume"]
    group = tmp_path / NAME / CELLS
    assert interrupt(words, signal.SIGINT, lambda: list(group.glob("*/start.pt"))) == 130
    assert interrupt(words, signal.SIGKILL, lambda: list(group.glob("*/*/model.pt"))) == -signal.SIGKILL
    assert study(*words, "--processes=1") == 0
    assert study(*words[:-2], f"--out={tmp_path / 'undisturbed'}", "--processes=1") == 0
    ours, theirs = ((tmp_path / place / NAME / "results.csv.gz").read_bytes() for place in ("", "undisturbed"))
    assert ours == theirs


def interrupt(words, kind, reached):
    """Send a signal to a study in two processes when it is so far; its exit code, after its helpers have ended."""
    command = [sys.executable, "-m", "sibx", "study", *words, "--processes=2"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        env=environment(),
        # Tests that a shell runs in the background inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # What was reached may lie there from an earlier run: the helpers must have begun as well.
    while not (reached() and (helpers := children_of(process.pid))):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(kind)
    code = process.wait()
    deadline = time.monotonic() + 60  # on a busy machine a helper may take long to begin, and so to notice
    while any(is_running(pid) for pid in helpers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return code


def children_of(pid):
    """The processes that one has started, its helpers last; none before it has started a helper."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children if len(children) > 1 else []  # the first one keeps track of shared memory


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


FRAGILE = """
import os
import time
from multiprocessing import parent_process
from pathlib import Path

from sibx.models import TinyCNN

BEGUN = Path("begun")


def build(classes):
    if parent_process() is not None:
        BEGUN.touch()
        os._exit(7)
    while not BEGUN.exists():  # the first process may be fast
        time.sleep(0.01)
    return TinyCNN(classes, width=4)
"""


@pytest.mark.slow
def test_a_process_that_dies_is_noticed(tmp_path, brief, monkeypatch, capfd):
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.chdir(tmp_path)
    words = ["--model=fragile:build", "--trainings=[ce]", "--seed", "0", "1", "--processes=2"]
    assert study(*TINY, *words) == 1
    printed = capfd.readouterr().err
    assert "RuntimeError: the process that did it ended with exit code 7" in printed
    assert "1 others need these" in printed
    whole = Results.load(tmp_path / "results" / "synthetic-fragile-build")
    assert whole.rows["seed"].nunique() == 1
    assert study(*TINY, *words[:-1], "--processes=1", "--resume") == 0
    assert Results.load(tmp_path / "results" / "synthetic-fragile-build").rows["seed"].nunique() == 2


MINE = """
from torch import nn

from sibx.objectives import Given
from sibx.train import TrainingSpec


def small(classes):
    features = nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


def brightness(model, images, labels, masks):
    return nn.functional.cross_entropy(model(images * masks), labels)


objects = TrainingSpec("objects", "sees the objects alone", brightness, Given())
"""
CONFIG = """
dataset: folder
model: mine:small
trainings: [ce, "mine:objects"]
image_size: 16
epochs: 1
start: {batch_size: 4}
tune: {batch_size: 4}
methods: [saliency, gradcam]
controls: []
localization: [foreground_focus]
faithfulness: []
test_images: 2
reliance_images: 2
"""


@pytest.mark.slow
def test_own_folder_own_model_and_own_training(tmp_path, monkeypatch, capfd):
    lines = ["image,mask,label,split"]
    for index in range(26):
        split, label = ("train", "val", "test")[(index >= 16) + (index >= 20)], ("dark", "light")[index % 2]
        save_picture(tmp_path / "data" / f"{index}.png", 60 + 120 * (index % 2) + index)
        save(tmp_path / "data" / f"{index}-mask.png", np.eye(HEIGHT, WIDTH, dtype=np.uint8) * 255)
        lines.append(f"{index}.png,{index}-mask.png,{label},{split}")
    (tmp_path / "data" / "index.csv").write_text("\n".join(lines))
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "mine.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    assert study("--config", "mine.yaml", "--root=data", "--processes=2") == 0, capfd.readouterr().err
    results = Results.load(tmp_path / "results" / "folder-mine-small")
    assert list(results.rows["training"].unique()) == ["ce", "objects"]
    assert "objects - ce" in (tmp_path / "results" / "folder-mine-small" / "summary.md").read_text()
    assert study("--model=mine:large", "--dry-run") == 2
    assert "`model` must be module:name that can be imported, but got 'mine:large'" in capfd.readouterr().err


def test_a_failure_is_recorded_and_the_rest_goes_on(tmp_path, brief, monkeypatch, capsys):
    words = [*TINY, f"--out={tmp_path}", "--processes=1"]
    folder = tmp_path / NAME
    cells = folder / CELLS / "seed-0"
    score = Scorer.score

    def fail_once(scorer, *arguments):
        if scorer.job.name == "ce":
            raise RuntimeError("no more memory")
        return score(scorer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "score", fail_once)
        assert study(*words) == 1
    printed = capsys.readouterr().err
    assert "FAILED, 1 of 3" in printed
    assert "synthetic, tiny_cnn, seed 0, ce: RuntimeError: no more memory" in printed
    assert "fail_once" in (cells / "ce-error.txt").read_text()
    partial = Results.load(folder)
    assert set(partial.rows["training"]) == {"sib"}
    assert "no more memory" in partial.info["failed"]["synthetic, tiny_cnn, seed 0, ce"]

    # What is there is not overwritten by accident, nor mixed with another study.
    assert study(*words) == 2
    assert "`out` must hold no earlier run" in capsys.readouterr().err
    assert study(*words, "--resume", "--epochs=2") == 2
    assert "`epochs` must be that of the study in" in capsys.readouterr().err

    # Nor is it mixed with other data, nor lost when the note of its settings is.
    settings, seen = folder / "study.json", folder / "cells" / "data-synthetic.json"
    before = [path.read_text() for path in (settings, seen)]
    for broken in ("", "[]", "{"):
        settings.write_text(broken)
        assert study(*words, "--resume") == 2
        printed = capsys.readouterr().err
        assert str(settings) in printed
        assert "delete the file: resume writes it anew" in printed
    settings.unlink()
    data = json.loads(before[1])
    data["val"]["sums"]["label"] = "another"
    seen.write_text(json.dumps(data))
    assert study(*words, "--resume") == 1
    assert "`root` must be that of the study in" in capsys.readouterr().err
    assert settings.read_text() == before[0]
    seen.write_text(before[1])

    # The failed training is tried again, the other one not; further ones may be added.
    kept = (cells / "sib" / "model.pt").stat().st_mtime_ns
    assert study(*words, "--resume", "--trainings=[ce, sib, sib-shuffled]") == 0
    assert kept == (cells / "sib" / "model.pt").stat().st_mtime_ns
    whole = Results.load(folder)
    assert list(whole.rows["training"].unique()) == ["ce", "sib", "sib-shuffled"]
    assert whole.info["failed"] == {}
    assert not list(folder.rglob("*error.txt"))


@pytest.mark.slow
def test_over_seeds_without_a_checkpoint(tmp_path, brief, capsys):
    trainings = ["ce", "sib-published", "sib", "sib-shuffled", "sib-online", "sib-online-shuffled"]
    small = ["--seed", "0", "1", "--start", "batch_size=16", f"--out={tmp_path}", "--processes=1"]
    config = ["--config", str(ROOT / "benchmarks" / "studies" / "scratch.yaml")]
    assert study(*config, *TINY, "--trainings", *trainings, *small, "--faithfulness=[]") == 0
    printed = capsys.readouterr().out
    for text in ("worst group", "Foreground focus: paired difference over seeds", "over images", "±"):
        assert text in printed
    assert "sib-online - sib-online-shuffled" in printed
    folder = tmp_path / "study-scratch"
    assert not list(folder.rglob("start.pt"))
    results = Results.load(folder)
    explained = results.rows[results.rows["method"] == "gradcam"]
    assert set(explained["split"]) == {"test-decorrelated"}
    assert set(results.rows["split"]) == {"test-id", "test-decorrelated", "test-adversarial"}
    gains = results.where(split="test-decorrelated").over_seeds("sib", "ce").set_index(["method", "metric"])
    expected = gains.loc[("gradcam", "foreground_focus"), "mean"]
    part = printed.partition("Foreground focus: paired difference over seeds")[2]
    header, line = (next(row for row in part.splitlines() if row.startswith(w)) for w in ("| claim", "| sib - ce"))
    column = [cell.strip() for cell in header.split("|")].index("gradcam")
    assert float(line.split("|")[column].split()[0]) == pytest.approx(expected, abs=6e-4)
