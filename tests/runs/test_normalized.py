"""A network gets its images normalized as it was trained, or a warning says that it does not."""

import warnings

import pytest
import torch

import sibx
from sibx.cli import main
from sibx.datasets import Renormalized, SyntheticDataset, build_dataset
from sibx.images import IMAGENET, Normalization, Unchanged
from sibx.models import MODELS, about, build_model, load_model
from sibx.train import TrainConfig, fine_tune

HALF = Normalization((0.5,) * 3, (0.5,) * 3)
DATA = SyntheticDataset("test-id", 32, size=4)
ONE_EPOCH = TrainConfig(epochs=1, batch_size=4)


def _trained(normalization: Normalization, folder=None):
    """A network that was trained on images in this normalization."""
    data = Renormalized(DATA, normalization)
    return fine_tune(build_model("tiny_cnn", 8), data, config=ONE_EPOCH, out_dir=folder, progress=False).model


@pytest.mark.parametrize("wanted", [HALF, IMAGENET])
def test_renormalized_images_are_the_same_pixels(wanted):
    for built in (Renormalized(DATA, wanted), build_dataset("synthetic", split="test-id", image_size=32, size=4)):
        pixels = built.normalization.inverse(built[2].image)
        assert torch.allclose(pixels, DATA.normalization.inverse(DATA[2].image), atol=1e-6)
    assert Renormalized(DATA, wanted)[1][1:3][0].equal(DATA[1].mask)
    built = build_dataset("synthetic", split="test-id", image_size=32, normalization=wanted, size=4)
    assert torch.equal(built[3].image, Renormalized(DATA, wanted)[3].image)
    assert built.label_of(1) == DATA.label_of(1)
    assert built.group_of(1) == DATA.group_of(1)


def test_what_cannot_be_renormalized_is_refused():
    with pytest.raises(ValueError, match=r"`normalization` must have the 3 channels of the images, but got 1"):
        Renormalized(DATA, Normalization((0.5,), (0.5,)))
    with pytest.raises(ValueError, match="`normalization` must be a Normalization"):
        Renormalized(DATA, (0.5, 0.5))
    unknown = sibx.wrap([(torch.randn(3, 16, 16), 0)], classes=["a"])
    with pytest.raises(ValueError, match="say how its images were normalized"):
        Renormalized(unknown, HALF)[0]


@pytest.mark.parametrize(
    "door",
    [
        lambda model, data: sibx.evaluate(model, data, methods=["saliency"], metrics=["foreground_focus"]),
        lambda model, data: sibx.evaluate_reliance(model, data, backgrounds=["only_fg"]),
        lambda model, data: sibx.evaluate_robustness(model, data, attacks=[], corruptions=["gaussian_noise"]),
        lambda model, data: fine_tune(model, data, config=ONE_EPOCH, progress=False),
    ],
    ids=["evaluate", "reliance", "robustness", "fine_tune"],
)
def test_another_normalization_is_said(door):
    model = _trained(HALF)
    assert about(model).normalization == HALF
    with pytest.warns(
        UserWarning, match=r"trained on images normalized by mean \(0.5, .*synthetic/test-id.* normalizes"
    ):
        door(model, DATA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        door(model, Renormalized(DATA, HALF))


def test_what_a_network_was_trained_on_is_known(tmp_path):
    """Published weights, and own ones; random weights were trained on nothing."""
    assert about(build_model("tiny_cnn", 8)).normalization is None
    assert about(build_model("efficientnet_lite0", 5, "bundled")).normalization == HALF
    assert MODELS["efficientnet_lite0"].normalization == HALF
    assert about(torch.nn.Identity()).normalization is None
    assert about(lambda images: images).normalization is None
    _trained(IMAGENET, tmp_path)
    assert about(load_model(tmp_path / "model.pt")).normalization == IMAGENET
    assert about(load_model(tmp_path / "model.pt")).classes == DATA.classes


def test_a_network_that_saw_images_as_they_are_can_be_loaded(tmp_path):
    data = sibx.wrap([(torch.randn(3, 16, 16), k % 2) for k in range(4)], classes=["a", "b"])
    fine_tune(build_model("tiny_cnn", 2), data, config=ONE_EPOCH, out_dir=tmp_path, progress=False)
    assert about(load_model(tmp_path / "model.pt")).normalization == Unchanged()


def test_timm_says_its_own(tmp_path):
    pytest.importorskip("timm")
    network = build_model("timm/vit_tiny_patch16_224", 4)
    assert about(network).normalization is None
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    assert about(build_model("timm/vit_tiny_patch16_224", 4, str(tmp_path / "weights.pt"))).normalization == HALF


def test_the_command_line_takes_the_networks_own(tmp_path, capsys):
    """Images of an evaluation and of a training that goes on are normalized as the network was trained."""
    _trained(HALF, tmp_path / "first")
    model = ["--checkpoint", str(tmp_path / "first" / "model.pt"), "--dataset", "synthetic", "--limit", "4"]
    small = ["--image-size", "32", "--batch-size", "4"]
    shown = ["--methods", "saliency", "--metrics", "foreground_focus"]
    assert main(["evaluate", *model, *small, *shown, "--out", str(tmp_path / "scores")]) == 0
    assert "images are normalized as the model was trained: by mean (0.5, 0.5, 0.5)" in capsys.readouterr().out
    assert sibx.Results.load(tmp_path / "scores").info["normalization"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
    tuned = ["--epochs", "1", "--training", "ce", "--model", "tiny_cnn"]
    assert main(["finetune", *model, *small, *tuned, "--out", str(tmp_path / "second")]) == 0
    assert about(load_model(tmp_path / "second" / "model.pt")).normalization == HALF
