"""Grids of images: what a cell's sample is, the grid pointing game, and a model that sees cells apart."""

import pytest
import torch

from sibx import evaluate, explain
from sibx.datasets import GridDataset, InMemoryDataset, MosaicDataset
from sibx.models import CellsApart, TinyCNN, TinyViT, find_cam_layer


@pytest.fixture
def net():
    torch.manual_seed(0)
    return TinyCNN(8, width=8).eval()


def test_a_sample_per_cell(shapes):
    """Nine different classes do not exist here, so 2 x 2; every cell is one of the source's images, once the object."""
    grids = GridDataset(shapes, count=6, seed=2)
    assert len(grids) == 24
    places = set()
    for grid in range(6):
        samples = [grids[4 * grid + cell] for cell in range(4)]
        assert len({s.label for s in samples}) == 4
        assert len({s.photo for s in samples}) == 1
        assert torch.equal(sum(s.mask.int() for s in samples), torch.ones(1, 64, 64, dtype=torch.int32))
        assert all(torch.equal(s.image, samples[0].image) for s in samples)
        for i, s in enumerate(samples):
            y, x = 32 * (i // 2), 32 * (i % 2)
            assert s.mask[0, y : y + 32, x : x + 32].all()
            (source,) = (p for p in shapes.samples if torch.equal(p.image, s.image[:, y : y + 32, x : x + 32]))
            assert source.label == s.label == grids.label_of(4 * grid + i)
            assert source.id == s.photo.split(":")[1].split("+")[i]
            assert grids.origin_of(4 * grid + i)["id"] == s.id
            places.add((s.label, i))
    assert len(places) > 12
    assert GridDataset(shapes, count=2, seed=2)[7].id == grids[7].id != GridDataset(shapes, count=2)[7].id
    apart = GridDataset(shapes, count=6, seed=2, apart=True)
    assert [apart[i].label - grids[i].label for i in range(8)] == [0, 8, 16, 24] * 2
    assert apart.classes[9] == f"{shapes.classes[1]} in cell 1"


def test_errors(shapes, net):
    few = InMemoryDataset(shapes, [s for s in shapes.samples if s.label < 3])
    with pytest.raises(ValueError, match="`source` must hold images of at least 4 classes, but got 3"):
        GridDataset(few)
    with pytest.raises(ValueError, match="`side` must be at least 2"):
        GridDataset(shapes, side=1)
    unlike = InMemoryDataset(shapes, shapes.samples)
    unlike.samples = [s._replace(image=s.image[..., : 32 - s.label % 2]) for s in shapes.samples]
    for kind in (GridDataset, MosaicDataset):
        with pytest.raises(ValueError, match="`seed` must be a whole number, but got 'a'"):
            kind(shapes, seed="a")
        with pytest.raises(ValueError, match="`source` must hold images of one shape"):
            [*map(kind(unlike, count=4).__getitem__, range(4))]
    with pytest.raises(ValueError, match=r"`model` must be a torch.nn.Module"):
        CellsApart(lambda x: x)
    with pytest.raises(ValueError, match="`images` must have sides that are multiples of 2"):
        CellsApart(net)(torch.rand(1, 3, 32, 33))
    with pytest.raises(ValueError, match=r"`model` must have a score for every class, two or more, but got \(4, 1\)"):
        CellsApart(TinyCNN(1, width=4))(torch.rand(1, 3, 32, 32))


def test_cells_are_masks_of_images_without(shapes, net):
    """Nobody has to draw anything for a grid."""
    bare = InMemoryDataset(shapes, [s._replace(mask=torch.zeros_like(s.mask)) for s in shapes.samples])
    bare.no_masks = "nobody drew any"
    options = {"methods": "control_center", "metrics": "foreground_focus", "target": "label", "progress": False}
    rows = evaluate(net, GridDataset(bare, count=1), **options).rows
    assert rows["value"].mean() == pytest.approx(0.25)


def test_a_transformer_apart():
    """Its tokens are no maps to lay out; its scores and gradients are those of the cells all the same."""
    torch.manual_seed(0)
    inner = TinyViT(3, width=16, depth=1).eval()
    images = torch.rand(1, 3, 64, 64)
    model = CellsApart(inner)
    assert torch.allclose(model(images)[:, 3:6], inner(images[:, :, :32, 32:]), atol=1e-5)
    heatmap = explain(model, images, "saliency", target=4)
    assert heatmap[:, :, :32, 32:].max() > 0 == heatmap[:, :, 32:].max() == heatmap[..., :32].max()


def test_a_map_without_a_class_scores_chance(shapes, net):
    options = {"methods": ["control_center", "control_edges"], "metrics": "foreground_focus", "progress": False}
    rows = evaluate(net, GridDataset(shapes, count=3), target="label", **options).rows
    assert rows.groupby(["method", "photo"])["value"].mean().to_numpy() == pytest.approx(0.25)


def test_a_model_that_sees_cells_apart(shapes, net):
    """Its scores are those of the cells; gradients cannot leave them, and CAMs see the maps of all cells at once."""
    grids = GridDataset(shapes, count=2, apart=True)
    model = CellsApart(net)
    images = torch.stack([grids[0].image, grids[4].image])
    cells = torch.stack([images[i, :, y : y + 32, x : x + 32] for i in (0, 1) for y in (0, 32) for x in (0, 32)])
    assert torch.allclose(model(images).view(8, 8), net(cells), atol=1e-5)
    assert find_cam_layer(model, images) == "cells"
    assert not any(module._forward_hooks for module in model.modules())
    methods = ["saliency", "integrated_gradients", "sib", "gradcam", "layercam", "eigencam"]
    options = {
        "metrics": "foreground_focus",
        "target": "label",
        "layer": "cells",
        "align": "half_pixel",
        "progress": False,
    }
    rows = evaluate(model, grids, methods=methods, **options).rows
    means = rows.groupby("method", sort=False)["value"].agg(["min", "mean"])
    exact = ["saliency", "integrated_gradients", "sib"]
    assert means.loc[exact, "min"].to_numpy() == pytest.approx(1, abs=1e-6), means
    assert 0.9 < means.loc["layercam", "min"] < 1  # but for its enlargement
    assert means.loc["gradcam", "mean"] < 0.9  # one weight per channel, wherever the scores look
    assert means.loc["eigencam", "mean"] == pytest.approx(0.25, abs=1e-3)  # one map for all cells
