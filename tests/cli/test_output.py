"""A binary classifier with one logit, and raw scores, through every command; a binary study."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sibx import Results, Study, about, load_model, run_study
from sibx.cli import main
from sibx.models import build_model
from sibx.studies import Place

SIDE = 32


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Dark and bright pictures with a square each."""
    root, draw = tmp_path_factory.mktemp("folder"), np.random.default_rng(0)
    for label, level in (("bright", 150), ("dark", 30)):
        for kind in ("images", "masks"):
            (root / kind / label).mkdir(parents=True)
        for number in range(20):
            pixels = level + draw.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
            mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
            mask[8:20, 8:20] = 255
            Image.fromarray(pixels).save(root / "images" / label / f"{number}.png")
            Image.fromarray(mask).save(root / "masks" / label / f"{number}.png")
    return root


def run(*words):
    return main([str(w) for w in words])


@pytest.fixture(scope="module")
def data(tree):
    return ("--dataset", "folder", "--root", tree, "--image-size", SIDE)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    options = ("--batch-size", 8, "--epochs", 12, "--learning-rate", 0.02, "--batch-norm", "train", "--device", "cpu")
    assert run("finetune", *data, "--model", "tiny_cnn", *options, "--output", "sigmoid", "--out", out) == 0
    return out / "model.pt"


def test_finetune_makes_one_logit(trained):
    notes = json.loads((trained.parent / "finetune.json").read_text())
    assert (notes["output"], notes["scores"]) == ("sigmoid", 1)
    state = torch.load(trained, weights_only=True)["state"]
    assert state["classifier.weight"].shape[0] == 1


def test_evaluate(trained, data, tmp_path, capsys):
    """Both classes are predicted, and right."""
    options = ("--methods", "saliency", "--metrics", "deletion", "--device", "cpu", "--gallery", 2)
    assert run("evaluate", *data, "--checkpoint", trained, *options, "--out", tmp_path) == 0
    assert capsys.readouterr().out.startswith("accuracy 1.000")
    results = Results.load(tmp_path)
    assert set(results.rows["predicted"]) == {0, 1}
    assert results.info["output"] == "sigmoid"


def test_evaluate_as_raw(trained, data, tmp_path, capsys):
    options = ("--methods", "saliency", "--metrics", "iou", "--device", "cpu", "--output", "raw")
    assert run("evaluate", *data, "--checkpoint", trained, *options, "--out", tmp_path) == 0
    assert capsys.readouterr().out.startswith("no accuracy: scores have no classes")


@pytest.mark.parametrize(
    ("command", "options"),
    [("reliance", ["--backgrounds", "only_fg"]), ("robustness", ["--severities", 1, "--steps", 1, "--epsilons", 1])],
)
def test_other_scores_of_a_classifier(command, options, trained, data, tmp_path, capsys):
    assert run(command, *data, "--checkpoint", trained, *options, "--device", "cpu", "--out", tmp_path) == 0
    assert "1.000" in capsys.readouterr().out


def test_explain(trained, tree, tmp_path, capsys):
    """The classes have their names, and their probabilities sum to 1."""
    picture = tree / "images" / "dark" / "0.png"
    options = ("--checkpoint", trained, "--methods", "saliency", "--device", "cpu", "--out", tmp_path)
    assert run("explain", picture, *options) == 0
    line = capsys.readouterr().out
    assert "; explained: 1 dark;" in line
    shown = [float(part.partition(")")[0]) for part in line.split("(")[1:3]]
    assert sum(shown) == pytest.approx(1, abs=0.002)
    assert run("explain", picture, *options, "--target", "bright") == 0
    assert "; explained: 0 bright;" in capsys.readouterr().out


def test_weights_of_one_output(tree, data, tmp_path, capsys):
    """They belong to a data set of two classes."""
    path = tmp_path / "weights.pth"
    torch.save(build_model("resnet18", 1).state_dict(), path)
    named = ("--weights", path, "--model", "resnet18", "--num-classes", 1, "--device", "cpu")
    picture = tree / "images" / "dark" / "0.png"
    assert run("explain", picture, *named, "--methods", "saliency", "--target", 1, "--out", tmp_path / "maps") == 0
    assert run("reliance", *data, *named, "--backgrounds", "only_fg", "--out", tmp_path / "scores") == 0
    capsys.readouterr()
    assert run("reliance", "--dataset", "synthetic", *named, "--out", tmp_path / "other") == 2
    assert "`num_classes` must be the data set's 8" in capsys.readouterr().err


def test_more_than_two_classes_are_no_binary_data(tmp_path, capsys):
    words = ("--dataset", "synthetic", "--limit", 8, "--model", "tiny_cnn", "--output", "sigmoid")
    assert run("finetune", *words, "--out", tmp_path) == 2
    assert "`output` must be 'softmax' (or 'auto') for more than two classes" in capsys.readouterr().err


def test_study(tree, tmp_path, brief):
    """From the checkpoint with a criterion of its own to the table, by one logit."""
    study = Study(
        dataset="folder",
        output="sigmoid",
        criterion="tests.helpers.criteria:weighted",
        trainings=["ce", "sib"],
        image_size=SIDE,
        epochs=1,
        start={"batch_size": 8},
        tune={"batch_size": 8},
        methods=["saliency"],
        controls=["control_random"],
        localization=["foreground_focus"],
        perturbed_images=2,
        test_images=4,
        reliance_images=2,
    )
    outcome = run_study(study, Place(root=str(tree), out=str(tmp_path), threads=1, processes=1, device="cpu"))
    assert not outcome.failed
    results = Results.load(outcome.folder)
    assert set(results.rows["training"]) == {"ce", "sib"}
    network = load_model(next(outcome.folder.rglob("ce/model.pt")))
    assert network.classifier.weight.shape[0] == 1
    assert about(network).output == "sigmoid"


def test_a_study_names_its_output_once():
    with pytest.raises(ValueError, match=r"`tune` must be one of .* but got 'output'"):
        Study(tune={"output": "sigmoid"}).check()
    with pytest.raises(ValueError, match="`output` must be 'softmax' or 'sigmoid' for a study"):
        Study(output="raw").check()
    with pytest.raises(ValueError, match="`criterion` must be module:name that can be imported"):
        Study(criterion="tests.helpers.criteria:none").check()
