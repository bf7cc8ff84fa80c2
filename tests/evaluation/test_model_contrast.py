"""BAM: counterfactual images are exact, and both scores are what they are defined as."""

import pytest
import torch
from torch import nn

from sibx import build_model, explain
from sibx.datasets import Part, SceneDataset, SyntheticDataset
from sibx.datasets.synthetic import TEXTURES
from sibx.evaluation import evaluate_contrast


@pytest.fixture
def data():
    return SyntheticDataset("test-decorrelated", 32, size=6)


def test_one_thing_changes_and_all_else_stays(data):
    scenes, bare = SceneDataset(data), SceneDataset(data, shown=False)
    for i in range(6):
        sample, mask = data[i], data[i].mask[0]
        assert torch.equal(scenes[i].image, sample.image)
        assert torch.equal(bare[i].image[:, ~mask], sample.image[:, ~mask])
        assert not torch.equal(bare[i].image[:, mask], sample.image[:, mask])
        assert scenes[i].label == bare[i].label == data.texture_of(i)
        assert (scenes[i].label == sample.label) == (sample.group % 2 == 1)
        assert torch.equal(bare[i].mask, sample.mask)
        assert bare[i].id == scenes[i].id == sample.id
        other = data.redraw(i, background=(data.texture_of(i) + 1) % len(TEXTURES)).image
        assert torch.equal(other[:, mask], sample.image[:, mask])
        assert not torch.equal(other[:, ~mask], sample.image[:, ~mask])
    with pytest.raises(ValueError, match=r"`background` must lie in 0\.\.7, the textures, but got 8"):
        data.redraw(0, background=8)
    with pytest.raises(ValueError, match="`background` must be a whole number"):
        data.redraw(0, background=1.5)
    with pytest.raises(ValueError, match="`seed` must be a whole number"):
        SyntheticDataset(seed=1.5)
    large = [SyntheticDataset("val", 32, seed=2**63 + i)[0].image for i in (0, 1)]
    assert not torch.equal(*large)  # as numbers of double precision they are one
    with pytest.raises(ValueError, match="`source` must be a SyntheticDataset"):
        SceneDataset(Part(data, [0]))
    assert scenes.origin_of(1)["image"] != bare.origin_of(1)["image"]


def share(model, sample, label):
    heatmap = explain(model, sample.image[None], "saliency", label)[0].double()
    return float((heatmap * sample.mask).sum() / heatmap.sum())


class Knowing(nn.Module):
    """A network that has the labels of some samples by heart; its gradients are those of any other."""

    def __init__(self, samples):
        super().__init__()
        self.inner = build_model("tiny_cnn", 8)
        self.samples = samples

    def forward(self, images):
        logits = self.inner(images)
        known = [next((s.label for s in self.samples if torch.equal(s.image, x)), None) for x in images.detach()]
        heart = torch.stack([torch.zeros(8) if k is None else 99 * torch.eye(8)[k] for k in known])
        return logits + heart


def test_both_scores_are_their_definitions(data):
    """A network of objects that is right but for one, and one of scenes but for two, one without its object alone."""
    torch.manual_seed(0)
    scenes, bare = SceneDataset(data), SceneDataset(data, shown=False)
    wrong = scenes[4]._replace(label=(scenes[4].label + 1) % 8), bare[5]._replace(label=(bare[5].label + 1) % 8)
    known = [*wrong, *(s[i] for s in (scenes, bare) for i in range(6))]
    shapes = Knowing([data[3]._replace(label=(data[3].label + 1) % 8), *(data[i] for i in range(6))]).eval()
    textures = Knowing(known).eval()
    options = {"methods": ["saliency", "control_center"], "progress": False}
    results = evaluate_contrast(shapes, textures, objects=data, scenes=scenes, bare=bare, **options)
    values = results.rows.pivot(index=["method", "image_id"], columns="metric", values="value")
    less = []
    for i in range(6):
        found = values.loc["saliency", data[i].id]
        on_scene, on_bare = (share(textures, s[i], scenes[i].label) for s in (scenes, bare))
        contrast = float("nan") if i in (3, 4) else share(shapes, data[i], data[i].label) - on_scene
        assert found["model_contrast"] == pytest.approx(contrast, abs=1e-5, nan_ok=True)
        less.append(float(on_scene < on_bare))
    rates = values.loc["saliency", "input_dependence"].to_numpy()
    assert rates == pytest.approx([*less[:4], float("nan"), float("nan")], nan_ok=True)
    assert set(less[:4]) == {0, 1}
    assert (values.loc["control_center", "model_contrast"].dropna() == 0).all()
    assert (values.loc["control_center", "input_dependence"].dropna() == 0).all()
    assert set(results.rows["dataset"]) == {"synthetic"}


def test_other_images_are_refused(data):
    model = build_model("tiny_cnn", 8).eval()
    scenes, bare = SceneDataset(data), SceneDataset(data, shown=False)
    options = {"objects": data, "scenes": scenes, "methods": "control_center", "progress": False}
    with pytest.raises(ValueError, match="`bare` must hold the 6 images of `objects`, but got 2"):
        evaluate_contrast(model, model, bare=Part(bare, [0, 1]), **options)
    with pytest.raises(ValueError, match="`bare` must hold the images of `objects` in the same order"):
        evaluate_contrast(model, model, bare=Part(bare, [1, 0, 2, 3, 4, 5]), **options)
