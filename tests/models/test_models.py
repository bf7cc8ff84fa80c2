"""Models: heads, weights from files, CAM layers, checkpoints, and hooks that leave no trace."""

import sys

import pytest
import torch
from torch import nn
from torchvision import models as tv

from sibx.models import (
    MODELS,
    TinyCNN,
    build_model,
    eval_mode,
    find_cam_layer,
    frozen_batch_norm,
    head_parameters,
    record,
    resolve_layer,
    to_grid,
)
from sibx.models.checkpoint import load_checkpoint, save_checkpoint


@pytest.mark.parametrize("name", MODELS)
def test_every_model_builds_and_has_a_cam_layer(name):
    model = build_model(name, 5).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5)
    assert [p.shape[0] for p in head_parameters(model)] == [5, 5]
    layer = resolve_layer(model, None)
    with torch.no_grad(), record(model, {"cam": layer}, tokens=True) as outputs:
        model(torch.randn(1, 3, 64, 64))
    assert to_grid(outputs["cam"], (64, 64)).ndim == 4
    assert MODELS[name].name == name


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0", "vgg16", "densenet121"])
def test_cam_layer_lies_behind_the_last_activation(name):
    """At an output that only ReLU-like activations (or their maximum) produce, nothing is far below zero."""
    model = build_model(name, 3).eval()
    with torch.no_grad(), record(model, {"cam": resolve_layer(model, None)}) as outputs:
        model(torch.randn(1, 3, 64, 64))
    assert outputs["cam"].min() >= -0.3


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("vgg11", "features"),
        ("densenet121", "features:relu"),
        ("mobilenet_v2", "features"),
        ("mobilenet_v3_small", "features"),
        ("efficientnet_b0", "features"),
        ("convnext_tiny", "features"),
        ("squeezenet1_1", "classifier.2"),
        ("alexnet", "features.11"),
        ("googlenet", "inception5b"),
        ("vit_b_16", "encoder.layers.encoder_layer_11.ln_1"),
        ("swin_t", "permute"),
    ],
)
def test_cam_layer_of_torchvision(name, layer):
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    model = tv.get_model(name, weights=None, **options)
    found = find_cam_layer(model)
    assert found == layer or resolve_layer(model, found) is resolve_layer(model, layer)


class TestToGrid:
    def test_maps_stay(self):
        features = torch.randn(2, 3, 4, 5)
        assert to_grid(features, (64, 80)) is features

    @pytest.mark.parametrize("extra", [0, 1, 5])
    def test_tokens_become_rows(self, extra):
        grid = torch.arange(24.0).view(1, 4, 6, 1).expand(2, 4, 6, 7)
        tokens = torch.cat([torch.full((2, extra, 7), -1.0), grid.flatten(1, 2)], 1)
        assert torch.equal(to_grid(tokens, (64, 96)), grid.permute(0, 3, 1, 2))

    def test_no_grid(self):
        with pytest.raises(ValueError, match=r"`layer` must output tokens that fill a grid .* \(2, 3, 4\)"):
            to_grid(torch.zeros(2, 3, 4), (10, 77))


def test_no_cam_layer():
    model = nn.Sequential(nn.Conv2d(3, 4, 64), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="`layer` must be given for Sequential: it has no feature map"):
        find_cam_layer(model)


def test_cam_layer_needs_a_convolution():
    with pytest.raises(ValueError, match="`layer` must be given for Linear, which has no convolution"):
        find_cam_layer(nn.Linear(3, 3))


def test_unknown_layer(model):
    with pytest.raises(ValueError, match=r"`layer` must be one of .*did you mean 'features.8'"):
        resolve_layer(model, "feature.8")


def test_finding_a_layer_restores_modes(model):
    model.train()
    model.features[1].eval()
    find_cam_layer(model)
    assert model.training
    assert not model.features[1].training
    assert all(not m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("classes", [3, 1000])
def test_weights_from_a_file(tmp_path, classes):
    torch.manual_seed(0)
    saved = tv.mobilenet_v2(num_classes=classes)
    torch.save(saved.state_dict(), tmp_path / "w.pt")
    model = build_model("mobilenet_v2", 3, str(tmp_path / "w.pt"))
    assert torch.equal(model.features[0][0].weight, saved.features[0][0].weight)
    assert torch.equal(model.classifier[1].weight, saved.classifier[1].weight) == (classes == 3)


def test_weights_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="`weights` must be 'default' or the path of a state dict"):
        build_model("resnet18", 3, str(tmp_path / "none.pt"))
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pt")
    save_checkpoint(tmp_path / "model.pt", build_model("tiny_cnn", 2), classes=("a", "b"))
    with pytest.raises(ValueError, match=r"`weights` must be a plain state dict \(load_model and --checkpoint read"):
        build_model("resnet18", 2, str(tmp_path / "model.pt"))
    with pytest.raises(ValueError, match="`weights` must hold a state dict of resnet18"):
        build_model("resnet18", 3, str(tmp_path / "w.pt"))


def test_default_weights_come_from_the_cache(tmp_path, monkeypatch):
    url = tv.ResNet18_Weights.DEFAULT.url
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    # torchvision checks a digest that a made-up file cannot have.
    monkeypatch.setattr("torch.hub.HASH_REGEX", __import__("re").compile("^$"))
    saved = tv.resnet18(weights=None)
    torch.save(saved.state_dict(), cache / url.rsplit("/", 1)[1])
    model = build_model("resnet18", 4, "default")
    assert torch.equal(model.conv1.weight, saved.conv1.weight)
    assert model.fc.out_features == 4


def test_tiny_cnn_norm():
    assert not any(isinstance(m, nn.BatchNorm2d) for m in TinyCNN(norm="group").modules())
    with pytest.raises(ValueError, match="`norm` must be one of batch, group"):
        TinyCNN(norm="layer")


def test_record_survives_in_place_activations():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten())
    with record(model, {"conv": model[0]}) as outputs:
        model(torch.randn(2, 3, 8, 8))
    assert outputs["conv"].min() < 0


def test_record_removes_hooks_after_an_exception(model):
    with pytest.raises(RuntimeError), record(model, {"f": model.features}):
        model(torch.randn(1, 4, 8, 8))
    assert not model.features._forward_hooks


def test_record_refuses_what_is_no_feature_map(model):
    with (
        pytest.raises(
            ValueError, match=r"`layer` 'classifier' must output a feature map .* a float32 tensor of shape \(1, 5\)"
        ),
        record(model, {"head": model.classifier}),
    ):
        model(torch.randn(1, 3, 8, 8))


def test_frozen_batch_norm(model):
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with frozen_batch_norm(model):
        model(torch.randn(2, 3, 8, 8))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    with frozen_batch_norm(lambda x: x):  # a plain function has none
        pass


def test_eval_mode_after_an_exception(model):
    model.train()
    with pytest.raises(RuntimeError), eval_mode(model):
        raise RuntimeError
    assert model.training


class TestCheckpoint:
    def test_round_trip(self, model, tmp_path):
        save_checkpoint(tmp_path / "a" / "m.pt", model, classes=("x", "y"))
        other = TinyCNN(5, width=8)
        assert load_checkpoint(tmp_path / "a" / "m.pt", other) == {"classes": ("x", "y"), "config": {}}
        assert torch.equal(other.classifier.weight, model.classifier.weight)
        assert [p.name for p in (tmp_path / "a").iterdir()] == ["m.pt"]

    def test_refuses_what_is_not_ours(self, model, tmp_path):
        path = tmp_path / "m.pt"
        with pytest.raises(ValueError, match="`path` must be a checkpoint file"):
            load_checkpoint(path, model)
        save_checkpoint(path, model, classes=())
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ValueError, match="`path` must be a checkpoint that can be read"):
            load_checkpoint(path, model)
        torch.save(model.state_dict(), path)
        with pytest.raises(ValueError, match="of the format sibx-checkpoint-1"):
            load_checkpoint(path, model)
        save_checkpoint(path, TinyCNN(4), classes=())
        with pytest.raises(ValueError, match="`model` must have the checkpoint's parameters"):
            load_checkpoint(path, model)


class TestTimm:
    """Models of the extra ``timm``, which CI installs."""

    @pytest.fixture(autouse=True)
    def _timm(self):
        pytest.importorskip("timm", reason="needs the extra timm")

    @pytest.mark.parametrize(
        ("name", "layer"),
        [
            ("resnet10t", "layer4"),
            ("convnext_atto", "norm_pre"),
            ("vit_tiny_patch16_224", "blocks.11.norm1"),
            ("mobilenetv3_small_050", "blocks"),
        ],
    )
    def test_cam_layer(self, name, layer):
        model = build_model(f"timm/{name}", 5)
        assert find_cam_layer(model, 224) == layer

    def test_weights_of_a_model_with_two_heads(self, tmp_path):
        name = "timm/deit_tiny_distilled_patch16_224"
        torch.save(build_model(name, 7).state_dict(), tmp_path / "w.pth")
        assert build_model(name, 5, str(tmp_path / "w.pth")).head.out_features == 5

    @pytest.mark.parametrize("classes", [3, 7])
    def test_weights_from_a_file(self, tmp_path, classes):
        source = build_model("timm/resnet10t", 7)
        torch.save(source.state_dict(), tmp_path / "w.pth")
        model = build_model("timm/resnet10t", classes, str(tmp_path / "w.pth"))
        assert torch.equal(model.conv1[0].weight, source.conv1[0].weight)
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, classes)

    def test_errors(self, tmp_path):
        with pytest.raises(ValueError, match="`name` must be a model that timm has"):
            build_model("timm/resnet10", 3)
        torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
        with pytest.raises(ValueError, match="`weights` must hold a state dict of timm/resnet10t"):
            build_model("timm/resnet10t", 3, str(tmp_path / "w.pth"))


def test_timm_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'sibx\[timm\]'"):
        build_model("timm/resnet10t", 3)
