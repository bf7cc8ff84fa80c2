"""Any model's scores: what is read from outputs, contrasts, and wrappers around a model."""

import copy
import pickle
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sibx import evaluate
from sibx.attribution import METHODS, GradCAM, Saliency, SIBAttribution, build_method, explain, explain_many
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.metrics import randomization
from sibx.models import (
    PromptScores,
    Scored,
    TinyCNN,
    contrast,
    find_cam_layer,
    layers_inside,
    parameter_layers,
    redraw,
    resolve_layer,
    unwrap,
)
from sibx.models.checkpoint import load_checkpoint, save_checkpoint
from sibx.models.scored import readings
from sibx.objectives import GuidanceConfig, GuidanceLoss, SIBConfig, SIBLoss, evidence_masks

Pair = namedtuple("Pair", ["logits", "features"])


@dataclass
class Record:
    logits: Tensor
    features: Tensor


FORMS = {
    "dict": lambda z, f: {"logits": z, "features": f},
    "tuple": lambda z, f: (z, f),
    "list": lambda z, f: [z, f],
    "named tuple": Pair,
    "record": Record,
}


class Detailed(nn.Module):
    """A classifier that returns its features, too, in a form of your choice."""

    def __init__(self, model, form):
        super().__init__()
        self.features, self.classifier, self.form = model.features, model.classifier, form

    def forward(self, images):
        features = self.features(images)
        return FORMS[self.form](self.classifier(features.mean((2, 3))), features)


def by_name(output):
    return output["logits"]


UNFIT = ("perturbation", "attention")  # slow; needs another network
NOT_HERE = ("scorecam", "iba", "lrp", *(n for n, s in METHODS.items() if s.kind in UNFIT))
READINGS = [
    ("dict", "logits"),
    ("dict", 0),
    ("dict", by_name),
    ("tuple", 0),
    ("tuple", -2),
    ("list", 0),
    ("named tuple", "logits"),
    ("named tuple", 0),
    ("record", "logits"),
    ("record", 0),
]


class TestScored:
    @pytest.mark.parametrize(("form", "scores"), READINGS)
    def test_reads_every_form(self, form, scores, model, images):
        scored = Scored(Detailed(model, form), scores)
        assert torch.equal(scored(images), model(images))
        assert torch.equal(explain(scored, images, "gradcam"), explain(model, images, "gradcam"))

    @pytest.mark.parametrize("name", [n for n, s in METHODS.items() if s.uses_target and n not in NOT_HERE])
    def test_every_method_explains_it(self, name, images):
        torch.manual_seed(0)
        model = TinyCNN(5, width=8, activation="relu").eval()
        scored = Scored(Detailed(model, "dict"), "logits")
        expected = build_method(name, model).attribute(images, target=1)
        assert torch.allclose(build_method(name, scored).attribute(images, target=1), expected, atol=1e-6)

    def test_one_value_per_row_is_one_column(self, model, images):
        embedding = torch.randn(32)
        scored = Scored(model.features, lambda f: torch.cosine_similarity(f.mean((2, 3)), embedding))
        assert scored(images).shape == (4, 1)
        plain = Saliency(lambda x: torch.cosine_similarity(model.features(x).mean((2, 3)), embedding))
        assert torch.equal(Saliency(scored).attribute(images), plain.attribute(images))

    def test_further_arguments_go_to_the_model(self):
        scored = Scored(lambda a, b, *, c: (a + b * c,), 0)
        assert scored(torch.ones(2, 3), torch.ones(2, 3), c=2).tolist() == [[3] * 3] * 2

    @pytest.mark.parametrize(
        ("form", "scores", "message"),
        [
            ("dict", "logit", r"`scores` must be one of logits, features, but got 'logit' \(did you mean 'logits'\?\)"),
            ("record", "z", "`scores` must be one of logits, features"),
            ("tuple", 2, "`scores` must be a position among the output's 2 parts, but got 2"),
            ("tuple", "logits", "`scores` must be a function for a model that returns a tuple, but got 'logits'"),
            (
                "dict",
                "features",
                r"scores of shape \(B, K\) or \(B,\), but got a float32 tensor of shape \(4, 32, 8, 8",
            ),
            ("dict", lambda output: output, r"scores of shape \(B, K\) or \(B,\), but got a dict"),
            ("tuple", lambda output: output[0].argmax(1), "`scores` must give floating-point scores"),
        ],
    )
    def test_errors(self, form, scores, message, model, images):
        with pytest.raises(ValueError, match=message):
            Scored(Detailed(model, form), scores)(images)

    def test_a_tensor_has_no_fields(self, model, images):
        for key in ("logits", 0):
            with pytest.raises(ValueError, match=r"must be a function for a model that returns a float32 tensor"):
                Scored(model, key)(images)

    def test_refused_at_once(self, model):
        with pytest.raises(ValueError, match="`scores` must be a name, a position or a function"):
            Scored(model, True)
        with pytest.raises(ValueError, match="`model` must be a module or a function"):
            Scored("resnet18", 0)


class TestContrast:
    @pytest.mark.parametrize(("against", "weight"), [(3, 1.0), ([3], 0.6), ((1, 3, 4), 0.5), (2, 0)])
    def test_is_the_difference(self, against, weight, model, images):
        logits = model(images)
        others = [against] if isinstance(against, int) else list(against)
        expected = logits - weight * sum(logits[:, a] for a in others).unsqueeze(1) / len(others)
        found = contrast(model, against, weight)(images)
        assert torch.allclose(found, expected, atol=1e-7)
        assert torch.allclose(found.softmax(1), logits.softmax(1), atol=1e-6)

    def test_gradients_subtract(self, model, images):
        ours = Saliency(contrast(model, [1, 4], 0.6)).attribute(images, target=2)
        one, first, second = (Saliency(model).attribute(images, target=t) for t in (2, 1, 4))
        assert torch.allclose(ours, one - 0.3 * (first + second), atol=1e-7)

    def test_a_class_against_itself_is_nothing(self, model, images):
        assert Saliency(contrast(model, 2)).attribute(images, target=2).abs().max() < 1e-7

    @pytest.mark.parametrize("name", ["gradcam", "hirescam", "ablationcam", "integrated_gradients", "sib"])
    def test_every_method_sees_it(self, name, model, images):
        plain, contrasted = (build_method(name, m).attribute(images, target=2) for m in (model, contrast(model, 0)))
        assert not torch.allclose(plain, contrasted, atol=1e-6)

    def test_of_a_scored_model(self, model, images):
        scored = Scored(Detailed(model, "dict"), "logits")
        assert torch.equal(contrast(scored, 1)(images), contrast(model, 1)(images))
        with pytest.raises(ValueError, match=r"`model` must return logits .*, but got a dict. sibx.models.Scored"):
            contrast(scored.model, 1)(images)

    def test_says_what_it_is(self, model):
        """What the weights do not tell: results of two contrasts are not results of one model."""
        assert readings(contrast(model, 1)) == {"scores": "scores=_Contrast(against=(1,), weight=1.0)"}
        assert readings(nn.Sequential(contrast(Scored(model, 0), [2, 3], 0.5))) == {
            "0": "scores=_Contrast(against=(2, 3), weight=0.5)",
            "0.model": "scores=0",
        }
        assert readings(Scored(model, by_name)) == {"scores": "scores=by_name"}
        assert readings(Scored(model, PromptScores(torch.eye(5)))) == {"scores": "scores=PromptScores"}
        assert readings(model) == {}

    def test_evaluations_are_told_apart(self, tmp_path):
        data = InMemoryDataset.load(SyntheticDataset("val", 32, size=2))
        options = {"methods": ["saliency"], "metrics": ["foreground_focus"], "progress": False, "out_dir": tmp_path}
        model = TinyCNN(8, width=8)
        evaluate(contrast(model, 1), data, **options)
        evaluate(contrast(model, 1), data, resume=True, **options)
        with pytest.raises(ValueError, match=r"`model` must be that of .*against=\(1,\).*against=\(2,\)"):
            evaluate(contrast(model, 2), data, resume=True, **options)

    def test_copies(self, model, images):
        contrasted = contrast(model, 1)
        for twin in (copy.deepcopy(contrasted), pickle.loads(pickle.dumps(contrasted))):
            assert torch.equal(twin(images), contrasted(images))

    def test_errors(self, model, images):
        with pytest.raises(ValueError, match=r"`against` must lie in 0..4, the model's classes, but got \(1, 5\)"):
            contrast(model, [1, 5])(images)
        with pytest.raises(ValueError, match="`against` must be at least 0"):
            contrast(model, -1)
        with pytest.raises(ValueError, match="`against` must be a whole number"):
            contrast(model, [0.5])
        with pytest.raises(ValueError, match="`against` must name at least one class"):
            contrast(model, [])
        with pytest.raises(ValueError, match="`weight` must be a number"):
            contrast(model, 1, "much")


class Framework(nn.Module):
    """Fabric's form: the wrapped model, and the model itself once more."""

    def __init__(self, model):
        super().__init__()
        self._forward_module = nn.DataParallel(model)
        self._original_module = model

    def forward(self, images):
        return self._forward_module(images)


def by_fabric(model):
    fabric = pytest.importorskip("lightning_fabric", reason="needs the extra loops")
    return fabric.Fabric(accelerator="cpu", devices=1).setup_module(model)


def by_accelerate(model):
    accelerate = pytest.importorskip("accelerate", reason="needs the extra loops")
    return accelerate.Accelerator(cpu=True).prepare(model)


WRAPPERS = {
    "devices": nn.DataParallel,
    "compiled": lambda model: torch.compile(model, backend="aot_eager"),
    "compiled devices": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
    "framework": Framework,
    "fabric": by_fabric,
    "accelerate": by_accelerate,
    "scored, compiled": lambda model: contrast(torch.compile(model, backend="eager"), 0, weight=0),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
class TestUnwrap:
    """Names of layers are those of the innermost model, whatever is around it, and results are the model's own."""

    @pytest.fixture
    def pair(self, wrapper):
        """The model, and a wrapped copy of it."""
        torch.manual_seed(0)
        model = TinyCNN(5, width=8, norm="group").eval()
        return model, WRAPPERS[wrapper](copy.deepcopy(model)).eval()

    @pytest.fixture
    def small(self, images):
        return images[..., :16, :16]

    def test_finds_the_model(self, wrapper):
        model = TinyCNN(5, width=8)
        wrapped = WRAPPERS[wrapper](model)
        assert unwrap(wrapped) is model
        assert resolve_layer(wrapped, "features.6") is model.features[6]
        assert find_cam_layer(wrapped) == "features"

    def test_maps(self, pair, small):
        with torch.no_grad():
            pair[1](small)  # compiled before anything is hooked
        for name in ("gradcam", "ablationcam", "sib", "saliency"):
            expected, found = (build_method(name, m, "features.8").attribute(small, target=1) for m in pair)
            assert torch.allclose(expected, found, atol=1e-7), name
        maps = [explain_many(m, small, 1, ["gradcam"], "features.8")["gradcam"] for m in pair]
        assert torch.allclose(*maps, atol=1e-7)
        at_layer = [SIBAttribution(m, layer="features.8").attribute(small, target=1) for m in pair]
        assert torch.allclose(*at_layer, atol=1e-7)
        assert maps[1].max() > 0

    def test_losses_and_masks(self, pair, small):
        masks, labels = torch.zeros(4, 1, 16, 16, dtype=torch.bool), torch.arange(4)
        masks[:, :, 4:9, 4:9] = True
        given = [SIBConfig.recommended("given", layers) for layers in ("auto", {"features.6": 1.0})]
        energy = GuidanceConfig("energy-cam", weight=1.0)
        for loss in (SIBLoss(), *map(SIBLoss, given), GuidanceLoss(energy)):
            totals = [loss(m, small, labels, masks).total for m in pair]
            gradients = [
                torch.autograd.grad(t, list(unwrap(m).parameters())) for t, m in zip(totals, pair, strict=True)
            ]
            for a, b in zip(*gradients, strict=True):
                assert torch.allclose(a, b, atol=1e-7)
        assert torch.equal(*(evidence_masks(m, small, SIBConfig.recommended("self")) for m in pair))

    def test_randomization(self, pair, small):
        assert parameter_layers(pair[1], small) == parameter_layers(pair[0], small)
        assert layers_inside(pair[1], "features") == layers_inside(pair[0], "features")
        for m in pair:
            redraw(m, ["classifier"], seed=1)
        assert torch.equal(*(unwrap(m).classifier.weight for m in pair))

    def test_checkpoints(self, pair, tmp_path):
        plain, wrapped = pair
        save_checkpoint(tmp_path / "m.pt", wrapped, classes=("a",))
        other = TinyCNN(5, width=8, norm="group")
        load_checkpoint(tmp_path / "m.pt", other)
        assert torch.equal(other.classifier.weight, plain.classifier.weight)
        nn.init.zeros_(unwrap(wrapped).classifier.weight)
        load_checkpoint(tmp_path / "m.pt", wrapped)
        assert torch.equal(unwrap(wrapped).classifier.weight, plain.classifier.weight)


def test_averaged_model(model, images):
    averaged = AveragedModel(model)
    assert isinstance(unwrap(averaged), TinyCNN)
    assert torch.equal(explain(averaged, images, "gradcam"), explain(model, images, "gradcam"))


def test_a_model_that_holds_another_is_one_itself():
    """Only what is known to wrap is looked through."""
    head = nn.Sequential(nn.DataParallel(TinyCNN(5, width=8)), nn.Linear(5, 3))
    assert unwrap(head) is head
    scored = Scored(lambda images: images.mean((2, 3)), lambda output: output)
    assert unwrap(scored) is scored


@pytest.mark.parametrize("inside", ["a part", "in place", "a function"])
def test_compiled_parts_are_read_too(inside, model, images):
    """Regional compilation, ``model.compile()``, and a compiled function around the model."""
    expected = GradCAM(model, model.features[8]).attribute(images, target=1)
    part, function = model.features[8], model
    if inside == "a part":
        model.features[3] = torch.compile(model.features[3], backend="aot_eager")
    elif inside == "in place":
        model.compile(backend="aot_eager")
    else:
        function = torch.compile(lambda x: model(x), backend="aot_eager")
    with torch.no_grad():
        function(images)
    assert torch.equal(GradCAM(function, part).attribute(images, target=1), expected)
    found = SIBAttribution(function, create_graph=True).attribute(images, target=1)
    found.square().sum().backward()
    assert model.classifier.weight.grad.abs().max() > 0


class Moved(nn.Module):
    """Moves the channels to another place."""

    def __init__(self, source, destination):
        super().__init__()
        self.source, self.destination = source, destination

    def forward(self, x):
        return x.movedim(self.source, self.destination)


class TestPlainFunctions:
    """A plain function has no names of layers; a layer given as a module is enough, as in Captum."""

    @pytest.mark.parametrize("name", ["gradcam", "layercam", "eigencam", "scorecam", "ablationcam"])
    def test_layer_as_a_module(self, name, model, images):
        expected = build_method(name, model, "features").attribute(images, target=1)
        found = build_method(name, lambda x: model(x), model.features).attribute(images, target=1)
        assert torch.equal(found, expected)

    @pytest.mark.parametrize("name", ["gradcam", "scorecam", "ablationcam"])
    def test_layer_with_channels_last(self, name, images):
        """Which axis holds the channels is measured by running the function."""
        torch.manual_seed(0)
        convolution, last, first = nn.Conv2d(3, 6, 4, 4), Moved(1, 3), Moved(3, 1)
        net = nn.Sequential(convolution, last, first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        expected = build_method(name, net, convolution).attribute(images, target=1)
        found = build_method(name, lambda x: net(x), last).attribute(images, target=1)
        assert expected.max() > 0
        assert torch.allclose(found, expected)

    def test_sib(self, model, images):
        def function(x):
            return {"logits": model(x)}["logits"]

        expected = SIBAttribution(model, layer="features").attribute(images, target=1)
        assert torch.equal(SIBAttribution(function, layer=model.features).attribute(images, target=1), expected)

    @pytest.mark.parametrize("layer", [None, "features"])
    def test_names_need_a_module(self, layer, model):
        with pytest.raises(ValueError, match=rf"`layer` must be a module \(a plain function .* got {layer!r}"):
            GradCAM(lambda x: model(x), layer)


def test_randomization_of_a_wrapped_model(model, images):
    def explain_with(changed):
        return lambda images, targets: explain(changed, images, "saliency", targets)

    heatmaps, targets = explain(model, images, "saliency", 1), torch.ones(4, dtype=torch.int64)
    for order, layers in (("cascading", None), ("independent", ["features", "classifier"])):
        options = {"order": order, "layers": layers}
        plain, wrapped = (
            randomization(m, explain_with, images, heatmaps, targets, **options)
            for m in (model, nn.DataParallel(model))
        )
        assert torch.equal(plain.similarities, wrapped.similarities)
