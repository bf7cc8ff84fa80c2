"""What a notebook shows: images with their maps, Results, and the terms of a loss."""

import io
import re
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image

import sibx
from sibx import SIBConfig, SIBLoss
from sibx.images import IMAGENET
from sibx.objectives import GroupDROConfig, GroupDROLoss, GuidanceConfig, GuidanceLoss
from tests.helpers.reports import make_results


def pixels_of(figure, axes):
    """What is drawn in the cell, (h, w, 3)."""
    stream = io.BytesIO(figure._repr_png_())
    drawn = np.asarray(Image.open(stream).convert("RGB"))
    box = axes.get_window_extent()
    return drawn[len(drawn) - int(box.y1) + 2 : len(drawn) - int(box.y0) - 2, int(box.x0) + 2 : int(box.x1) - 2]


def test_signed_maps_are_drawn_around_zero():
    images = torch.full((1, 3, 20, 30), 0.5)
    left = torch.ones(1, 1, 20, 30)
    left[..., 15:] = -1
    figure = sibx.show(images[0], {"signed": left, "plain": left.clamp(min=0)}, titles=["7 cock"])
    assert [axes.get_title() for axes in figure.axes] == ["7 cock", "signed", "plain"]
    signed, plain = (pixels_of(figure, axes) for axes in figure.axes[1:])
    red, blue = signed[:, : signed.shape[1] // 3].mean((0, 1)), signed[:, -signed.shape[1] // 3 :].mean((0, 1))
    assert red[0] > red[2] + 30
    assert blue[2] > blue[0] + 30
    assert plain[:, -10:].mean() < plain[:, :10].mean()  # what is 0 is dark


def test_normalized_images_masks_and_attributions_of_another_size():
    pixels = torch.rand(2, 3, 20, 20)
    masks = torch.zeros(2, 1, 20, 20, dtype=torch.bool)
    masks[..., 5:15, 5:15] = True
    figure = sibx.show(IMAGENET(pixels), torch.rand(2, 3, 5, 5), masks=masks, normalization=IMAGENET)
    assert len(figure.axes) == 4
    assert all(len(axes.lines) == 1 for axes in figure.axes)
    shown = figure.axes[2].images[0].get_array()
    assert np.asarray(shown) == pytest.approx(pixels[1].permute(1, 2, 0).numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heatmaps": torch.rand(3, 1, 8, 8)}, r"`heatmaps\[''\]` must have 2 rows"),
        ({"heatmaps": {"a": torch.rand(2, 8, 8)}}, r"`heatmaps\['a'\]` must"),
        (
            {"images": torch.rand(2, 3, 8, 8) * 2 - 1},
            r"`images` must lie in \[0, 1\], or come with",
        ),
        ({"images": torch.rand(21, 3, 8, 8)}, "`images` must be at most 20, but got 21"),
        ({"masks": torch.ones(2, 1, 8, 8)}, "`masks` must be a bool"),
        ({"titles": ["one"]}, "`titles` must be 2, one per image"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        sibx.show(**{"images": torch.rand(2, 3, 8, 8), "heatmaps": torch.rand(2, 1, 8, 8)} | options)


def cells_of(html):
    """The texts of a table, line by line."""
    lines = re.findall(r"<tr>(.*?)</tr>", html)
    return [[unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", line)] for line in lines]


def test_results_in_a_notebook():
    results = make_results(methods=("sib", "<b>&"), trainings=("ce", "sib"))
    shown = cells_of(results._repr_html_())
    assert shown[:3] == [
        ["Results", ""],
        ["images", "8"],
        ["of", "dataset synthetic, split test, model tiny_cnn, 2 trainings"],
    ]
    assert shown[3] == ["training", "method", "metric", "mean [95 % interval]", "n", "undefined"]
    summary = results.summary()
    assert [line[:3] for line in shown[4:]] == summary[["training", "method", "metric"]].to_numpy().tolist()
    assert shown[4][3].startswith(f"{summary['mean'][0]:.3f} [")
    assert "<b>&" not in results._repr_html_()


def test_only_the_first_of_many_lines(monkeypatch):
    monkeypatch.setattr("sibx.evaluation.notebook.MOST", 3)
    html = make_results()._repr_html_()
    assert len(cells_of(html)) == 3 + 1 + 3
    assert "the first 3 of them" in html


def test_terms_in_a_notebook(model, images):
    labels, masks = torch.tensor([0, 1, 2, 3]), images[:, :1] > 0
    dro = GroupDROLoss(GroupDROConfig(), torch.tensor([4, 4]))
    for terms in (
        SIBLoss(SIBConfig.recommended("given"))(model, images, labels, masks),
        GuidanceLoss(GuidanceConfig("rrr", weight=1.0))(model, images, labels, masks),
        dro(model, images, labels, groups=torch.tensor([0, 1, 0, 1])),
    ):
        shown = dict(map(tuple, cells_of(terms._repr_html_())))
        assert list(shown) == ["term", *terms._fields]
        assert float(shown["total"]) == pytest.approx(terms.total.item(), rel=1e-3)
        assert shown["logits"] == "(4, 5)"


def test_whatever_names_maps_and_images(model, images):
    maps, images = sibx.explain(model, images, "saliency"), images.sigmoid()
    titles = [axes.get_title() for axes in sibx.show(images, {3: maps}, titles=torch.arange(4)).axes]
    assert titles[:4] == ["0", "3", "1", "3"]
    for wrong in (list(images), images[:0], images.numpy()):
        with pytest.raises(ValueError, match="`images` must be"):
            sibx.show(wrong, maps)
