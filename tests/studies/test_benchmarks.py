"""benchmarks/run_all.py, from its command line, in small."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sibx import Results
from sibx.datasets import InMemoryDataset
from sibx.datasets.synthetic import SyntheticDataset
from sibx.evaluation import CELL
from sibx.images import BACKGROUNDS
from sibx.models import TinyCNN
from sibx.report.claims import SHUFFLED

ROOT = Path(__file__).parent.parent.parent
BENCHMARKS = ROOT / "benchmarks"
SMALL = ["--train-images=64", "--test_images", "3", "--perturbed-images=2", "--epochs", "1", "--threads", "1"]
FEW = ["--reliance-images=4", "--options", '{"synthetic": {"size": 64}}', "--device=cpu"]
# Two trainings of a moment each.
TINY = [
    *(*SMALL, *FEW, "--image-size=16", "--tune", '{"batch_size": 16}', "--trainings=[ce, sib]"),
    *("--methods=[saliency, gradcam]", "--controls=[control_random]", "--perturbed-images=1"),
    *("--localization=[foreground_focus]", "--faithfulness=[deletion]"),
]


def run(*arguments, cwd, launcher=()):
    # Coverage of the subprocess is not wanted; warnings are shown, not raised, in a user's run.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV_")}
    command = [sys.executable, *launcher, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)


def run_all(*arguments, cwd):
    return run(str(BENCHMARKS / "run_all.py"), *arguments, cwd=cwd)


@pytest.fixture
def driver(monkeypatch):
    """The script as a module; it imports its neighbors."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("run_all")


@pytest.fixture
def brief(driver, monkeypatch):
    """The script without the time it takes and without the report, which test_default_run_in_small asks for."""
    for name in ("estimate", "draw_gallery", "write_report"):
        monkeypatch.setattr(driver, name, lambda *_, **__: {})
    return driver


@pytest.mark.slow
def test_default_run_in_small(tmp_path):
    done = run_all(*SMALL, *FEW, "--image-size", "32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    own = "sib-self-cut - sib-self-cut-shuffled"
    for text in ("worst group", "test-adversarial", "foreground_focus", own, "Gains"):
        assert text in done.stdout
    heading = next(line for line in done.stdout.splitlines() if line.startswith("| claim"))
    order = ["foreground_focus", "foreground_lift", "background_suppression", "pointing_game", "deletion", "insertion"]
    assert heading.replace("|", " ").split()[1:] == order  # as the study names them
    assert "left, 5 jobs here" in done.stderr  # progress
    folder = tmp_path / "results" / "synthetic-tiny_cnn"
    results = Results.load(folder)
    scores = 12 * 6 + 2 + len(BACKGROUNDS)  # of the maps; of the classifier: as it is, gap, and all backgrounds
    assert results.rows.groupby(list(CELL)).ngroups == 3 * 4 * scores
    original = results.where(metric="original", training="sib-self-cut", split="test-id").rows
    assert original["image_id"].nunique() == len(original) == 64
    assert set(results.curves["curve"]) == {"deletion", "insertion"}
    assert {"summary.md", "report.html", "report.md", "gallery.npz"} <= {p.name for p in folder.iterdir()}
    assert {"start", "ce", "sib-self-cut"} <= results.info["training_log"].keys()
    assert all("history" in entry for entry in results.info["training_log"].values())
    assert not list(folder.rglob("training"))


@pytest.mark.slow
def test_real_photographs_in_small(tmp_path, shared_data):
    weights = str(shared_data / "weights" / "mobilenet_v2_tf2ptq.pth")
    config = ("--config", "configs/pets_mobilenet.yaml", "--root", str(shared_data / "oxford-iiit-pet-3"))
    few = ("--methods=[sib, gradcam]", "--trainings=[ce, sib-self-cut]", "--reliance-images=2", "--image-size=64")
    done = run_all(*config, "--weights", weights, *SMALL, *few, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    results = Results.load(tmp_path / "results" / "oxford-pets-mobilenet_v2")
    assert "Abyssinian" in str(results.rows["image_id"].unique())
    assert str(shared_data) not in json.dumps(results.info)


def test_errors_reach_the_user(tmp_path):
    done = run_all("--dataset", "oxford-pets", "--root", "nowhere", "--trainings=[ce]", cwd=tmp_path)
    assert done.returncode == 1
    assert "`root` must be a folder laid out as" in done.stderr
    assert "FAILED, 2 of 2" in done.stderr
    done = run_all("--dataset", "oxford-pet", cwd=tmp_path)
    assert done.returncode == 1
    assert "did you mean 'oxford-pets'" in done.stderr


@pytest.mark.slow
def test_killed_and_run_again_gives_the_same_bytes(tmp_path):
    done = run("-m", "tests.helpers.interrupted_study", str(tmp_path), cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    kills = [line for line in done.stdout.splitlines() if line.isdigit()]
    assert len(kills) >= 4
    assert len(set(kills)) >= 3  # at different stages; a kill may throw a study back to one that it had left
    undisturbed, killed = (tmp_path / name / "synthetic-tiny_cnn" for name in ("undisturbed", "killed"))
    for name in ("results.csv.gz", "curves.csv.gz", "summary.md"):
        assert (undisturbed / name).read_bytes() == (killed / name).read_bytes()
    assert not list(killed.rglob("*training")) + list(killed.rglob("*.tmp"))


@pytest.mark.slow
def test_ranks_share_the_jobs(tmp_path, brief):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    done = run(str(BENCHMARKS / "run_all.py"), *TINY, cwd=tmp_path, launcher=launcher)
    assert done.returncode == 0, done.stderr[-2000:]
    torch.set_num_threads(1)
    assert brief.main([*TINY, f"--out={tmp_path / 'alone'}"]) == 0
    shared, alone = (tmp_path / name / "synthetic-tiny_cnn" / "results.csv.gz" for name in ("results", "alone"))
    assert shared.read_bytes() == alone.read_bytes()


def test_a_failure_is_recorded_and_the_rest_goes_on(tmp_path, brief, monkeypatch, capsys):
    words = [*TINY, f"--out={tmp_path}"]
    folder = tmp_path / "synthetic-tiny_cnn"
    score = brief.Workbench.score

    def fail_once(bench, job, *arguments):
        if job.training == "ce":
            raise RuntimeError("no more memory")
        return score(bench, job, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(brief.Workbench, "score", fail_once)
        assert brief.main(words) == 1
    printed = capsys.readouterr().err
    assert "FAILED, 1 of 3" in printed
    assert "synthetic, tiny_cnn, seed 0, ce: RuntimeError: no more memory" in printed
    assert "fail_once" in (folder / "cells" / "synthetic-tiny_cnn" / "seed-0" / "ce-error.txt").read_text()
    partial = Results.load(folder)
    assert set(partial.rows["training"]) == {"sib"}
    assert "no more memory" in partial.info["failed"]["synthetic, tiny_cnn, seed 0, ce"]

    # What is there is not overwritten by accident, nor mixed with another study.
    with pytest.raises(ValueError, match="`out` must hold no earlier run"):
        brief.main(words)
    with pytest.raises(ValueError, match=r"same study.*epochs = 1, now 2"):
        brief.main([*words, "--resume", "--epochs=2"])

    # The failed training is tried again, the other one not.
    kept = (folder / "cells" / "synthetic-tiny_cnn" / "seed-0" / "sib" / "model.pt").stat().st_mtime_ns
    assert brief.main([*words, "--resume"]) == 0
    assert kept == (folder / "cells" / "synthetic-tiny_cnn" / "seed-0" / "sib" / "model.pt").stat().st_mtime_ns
    whole = Results.load(folder)
    assert list(whole.rows["training"].unique()) == ["ce", "sib"]
    assert whole.info["failed"] == {}
    assert not list(folder.rglob("*error.txt"))


def test_settings(driver, tmp_path):
    (tmp_path / "mine.yaml").write_text("dataset: [synthetic, msrc-v2]\nseed: [1, 2]\ntest_images: 5\n")
    words = ["--config", str(tmp_path / "mine.yaml"), "--test-images", "7", "--start", '{"epochs": 4}', "--resume"]
    study, place = driver.read(words)
    assert (study.datasets, study.models, study.seeds) == (["synthetic", "msrc-v2"], ["tiny_cnn"], [1, 2])
    assert (study.test_images, study.recipe_for("tiny_cnn").start.epochs) == (7, 4)
    assert (place.resume, place.dry_run) == (True, False)
    assert study.title == "synthetic+msrc-v2-tiny_cnn"
    assert len(study.jobs()) == 2 * 2 * (1 + 4)
    for word, message in {
        "--model=resnet": "did you mean 'resnet",
        "--methods=[gradcamm]": "did you mean 'gradcam'",
        "--trainings=[sibb]": r"`trainings` must name only ce, sib, .*, but got \['sibb'\]",
        "--localization=[focus]": "`metrics` must name only",
        '--tune={"epoch": 3}': "`tune` must name only epochs, ",
    }.items():
        with pytest.raises(ValueError, match=message):
            driver.main([word, "--dry-run"])


@pytest.mark.parametrize("config", sorted(p.name for p in (BENCHMARKS / "configs").iterdir()))
def test_every_configuration_can_be_planned(driver, config, monkeypatch, capsys, tmp_path):
    estimate = importlib.import_module("estimate")
    one = estimate.Passes(1, 1)
    trainings = importlib.import_module("study").TRAININGS
    gauge = estimate.Gauge(one, one, one, dict.fromkeys(trainings, one), one)
    monkeypatch.setattr(estimate, "measure", lambda *_: gauge)
    assert driver.main(["--config", f"configs/{config}", "--dry-run", f"--out={tmp_path}"]) == 0
    lines = [[cell.strip() for cell in row.split("|")] for row in capsys.readouterr().out.splitlines() if "| " in row]
    total = next(cells for cells in lines if cells[1] == "all")
    study, _ = driver.read(["--config", f"configs/{config}"])
    assert int(total[2]) == len(study.jobs())
    assert total[3] == "0"
    counted = not study.weights or study.images  # photographs that are not at hand count as none
    assert (int(total[4].replace(",", "")) > 100) == bool(counted)
    assert not list(tmp_path.iterdir())


def test_every_training_has_a_plan_and_its_own_control(driver):
    trainings = importlib.import_module("trainings")
    torch.manual_seed(0)
    data = InMemoryDataset.load(SyntheticDataset("train", 32, size=16))
    plans = trainings.plan_trainings(TinyCNN(8, width=4), data, trainings.FROM_SCRATCH, seed=0)
    assert set(plans) == set(importlib.import_module("study").TRAININGS)
    order = trainings.shuffled_order(data.labels, 0)
    for training, control in SHUFFLED.items():
        if training in plans:
            (learned, objective), (others, same) = plans[training](), plans[control]()
            masks = trainings.masks_of(learned)
            assert torch.equal(trainings.masks_of(others), masks[order])
            assert replace(objective, masks="given") == same
    share = trainings.masks_of(plans["sib-self"]()[0]).double().mean()
    cut = trainings.masks_of(plans["sib-self-cut"]()[0])
    assert share == pytest.approx(0.2, abs=1e-3)
    assert len(set(cut.flatten(1).sum(1).tolist())) > 8  # a size of its own for every image


def test_own_masks_are_counted_once_for_every_way_to_read_them(driver):
    estimate, study = importlib.import_module("estimate"), importlib.import_module("study")
    trainings = ["ce", "sib-self", "sib-shuffled", "sib-self-cut", "sib-self-background"]
    plan = study.Study(trainings=trainings, image_size=32)
    nothing, masks = estimate.Passes(), estimate.Passes(5, 3)
    gauge = estimate.Gauge(nothing, nothing, masks, dict.fromkeys(trainings, nothing), nothing)
    jobs = [study.Job("synthetic", "tiny_cnn", 0, training) for training in trainings]
    counted = [estimate._passes_of(plan, job, {"train": 7}, gauge) for job in jobs]
    assert counted == [nothing, masks * 7, nothing, masks * 7, nothing]


def test_passes_are_counted(driver):
    estimate = importlib.import_module("estimate")
    trainings = ["ce", "sib", "sib-published", "background-swap"]
    study = importlib.import_module("study").Study(
        trainings=trainings, methods=["saliency", "smoothgrad", "gradcam"], controls=["control_random"]
    )
    gauge = estimate.measure(study, "tiny_cnn", 32, torch.device("cpu"))
    assert (gauge.explain.forward, gauge.explain.backward) == (1 + 16 + 1, 1 + 16)  # Grad-CAM: not to the first layer
    assert (gauge.perturb.forward, gauge.perturb.backward) == (57 * 4, 0)
    assert {name: (p.forward, p.backward) for name, p in gauge.step.items()} == {
        "ce": (1, 1),
        "sib": (1, 1),
        "sib-published": (1, 2),  # R in input space
        "background-swap": (2, 2),
    }
    into_input = importlib.import_module("study").Study(
        trainings=["sib"], layers={"tiny_cnn": {"input": 1, "features.12": 1}}, methods=["vjp"], faithfulness=[]
    )
    step = estimate.measure(into_input, "tiny_cnn", 32, torch.device("cpu")).step["sib"]
    assert (step.forward, step.backward) == (1, 2)
    assert gauge.time(estimate.Passes(2, 0)) == pytest.approx(2 * gauge.seconds.forward)
