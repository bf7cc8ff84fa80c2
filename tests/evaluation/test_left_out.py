"""What an evaluation cannot do: refused at once where it was asked for by name, else left out, with the reason."""

import captum.attr
import pytest
import torch
from torch import nn

from sibx import METHODS, METRICS, Results, evaluate, write_report
from sibx.datasets import InMemoryDataset
from sibx.models import TinyCNN, TinyViT
from sibx.report import make_gallery
from tests.helpers.methods import HERE, quick_table

ATTENTIVE = [m for m, s in METHODS.items() if s.kind == "attention"]
UNFIT = ("deeplift", "lrp")  # no rules for a transformer


@pytest.fixture(autouse=True, scope="module")
def _quick():
    with quick_table():
        yield


@pytest.fixture(scope="module")
def few(shapes):
    return InMemoryDataset.load(shapes, range(2))


@pytest.fixture(scope="module")
def silu():
    torch.manual_seed(0)
    return TinyCNN(8, width=8).eval()  # SiLU: nothing to guide, and no rule of DeepLIFT


class Shared(nn.Module):
    """Every ReLU is the same module, as in torchvision's ResNets."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.relu = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3, 2), nn.ReLU()
        self.head = nn.Linear(4, 8)

    def forward(self, images):
        return self.head(self.relu(self.b(self.relu(self.a(images)))).mean((2, 3)))


def cam(model, images, targets):
    return images.abs().mean(1, keepdim=True)


class TestAll:
    def test_reasons_are_in_the_results_the_file_and_the_report(self, silu, few, tmp_path):
        results = evaluate(silu, few, methods="all", metrics=["foreground_focus"], out_dir=tmp_path, progress=False)
        reasons = results.skipped.set_index("method")["reason"]
        assert list(reasons.index) == ["guided_backprop", "guided_gradcam", "deeplift", "lrp", *ATTENTIVE]
        assert all("TinyCNN" in reasons[name] for name in ATTENTIVE)
        assert "hold torch.nn.ReLU modules" in reasons["guided_backprop"]
        assert "its rules did not reach every layer" in reasons["deeplift"]
        assert set(results.rows["method"]) == set(METHODS) - set(reasons.index)
        assert Results.load(tmp_path).skipped.equals(results.skipped)
        both = Results.concat([results, results], {"one": results.info, "two": results.info})
        assert both.skipped.equals(results.skipped)
        page = write_report(results, tmp_path / "report")
        assert "Guided Backprop: " in page.read_text(encoding="utf-8")
        assert "## Left out" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")

    def test_only_attention_is_missed_by_a_network_of_convolutions_and_relu(self, few):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8)
        results = evaluate(nn.Sequential(*layers).eval(), few, methods="all", metrics=["iou"], progress=False)
        missed = {*ATTENTIVE, *(set(METHODS) - set(HERE))}
        assert set(results.rows["method"]) == set(METHODS) - missed
        assert set(results.skipped["method"]) == missed

    def test_nothing_is_left_out_of_a_model_that_all_apply_to(self, few):
        torch.manual_seed(0)
        free = [n for n, s in METHODS.items() if s.kind not in ("perturbation", "control") and n not in UNFIT]
        vit = TinyViT(8, width=16, depth=2, activation="relu").eval()
        results = evaluate(vit, few, methods=free, metrics=["iou"], progress=False)
        assert set(results.rows["method"]) == set(free)
        assert results.skipped.empty
        assert results.info["skipped"] == []

    def test_a_relu_that_runs_twice(self, few):
        torch.manual_seed(0)
        results = evaluate(Shared().eval(), few, methods="all", metrics=["iou"], progress=False)
        assert "run every activation and pooling once" in results.skipped.set_index("method")["reason"]["deeplift"]

    def test_a_model_without_maps_has_no_cams(self, few):
        torch.manual_seed(0)
        flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8)).eval()
        results = evaluate(flat, few, methods="all", metrics=["iou"], progress=False)
        cams = {name for name, spec in METHODS.items() if spec.kind == "cam"}
        assert cams <= set(results.skipped["method"])
        assert "saliency" in set(results.rows["method"])

    def test_a_function_has_neither_modules_nor_layers(self, silu, few):
        results = evaluate(lambda images: silu(images), few, methods="all", metrics=["iou"], progress=False)
        bound = {name for name, spec in METHODS.items() if spec.needs_layer or spec.needs_module}
        assert set(results.skipped["method"]) == bound

    def test_pictures(self, silu, few):
        (item,) = make_gallery({"ce": silu}, few, methods="all", images=1)
        assert set(METHODS) - set(item.maps) == {"guided_backprop", "guided_gradcam", "deeplift", "lrp", *ATTENTIVE}


class TestByName:
    def test_all_that_fail_are_named_at_once_and_first(self, silu, few, tmp_path):
        ran = []

        def mine(images, targets):
            ran.append(images)
            return images

        methods = {"mine": mine, "guided_backprop": "guided_backprop", "guided_gradcam": "guided_gradcam"}
        message = r"`methods` must apply to the model .*guided_backprop \(.*ReLU.*\); guided_gradcam \("
        with pytest.raises(ValueError, match=message):
            evaluate(silu, few, methods=methods, metrics=["iou"], out_dir=tmp_path, progress=False)
        assert not ran
        assert not list(tmp_path.iterdir())

    def test_a_method_that_reaches_a_part_is_a_warning(self, silu, few):
        with pytest.warns(UserWarning, match="DeepLIFT's contributions sum to"):
            evaluate(silu, few, methods=["deeplift"], metrics=["iou"], progress=False)


class TestPairs:
    def test_what_can_be_built_again_takes_part(self, silu, few):
        """A function of the model, and a Captum attribution, explain the copies; Saliency as the table's own."""
        methods = {"mine": _saliency, "class": captum.attr.Saliency, "instance": captum.attr.Saliency(silu)}
        metrics = ["randomization", "max_sensitivity"]
        rows = evaluate(silu, few, methods=methods | {"ours": "saliency"}, metrics=metrics, progress=False).rows
        values = rows.pivot(index=["metric", "image_id"], columns="method", values="value")
        for name in methods:
            assert values[name].to_numpy() == pytest.approx(values["ours"].to_numpy(), rel=1e-4)

    def test_what_cannot_is_left_out_with_its_reason(self, silu, few):
        methods = {"fixed": lambda images, targets: cam(None, images, targets), "sib": "sib"}
        with pytest.warns(UserWarning, match="leaves out randomization of fixed: the method explains one model only"):
            results = evaluate(silu, few, methods=methods, metrics=["randomization", "iou"], progress=False)
        assert results.skipped[["method", "metric"]].to_numpy().tolist() == [["fixed", "randomization"]]
        pairs = results.rows[["method", "metric"]].drop_duplicates().to_numpy().tolist()
        assert pairs == [["fixed", "iou"], ["sib", "randomization"], ["sib", "iou"]]
        assert len(results.rows) == 2 * 3

    def test_every_metric_takes_a_function_of_the_model(self, silu, few):
        results = evaluate(silu, few, methods={"mine": _saliency}, metrics=list(METRICS), progress=False)
        assert set(results.rows["metric"]) == set(METRICS)


def _saliency(model, images, targets):
    images.requires_grad_()
    return torch.autograd.grad(model(images).gather(1, targets[:, None]).sum(), images)[0]
