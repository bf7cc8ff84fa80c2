"""Montages and tables."""

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch

from sibx.report import contours, metric_table, montage, to_markdown


@pytest.fixture
def case():
    pixels = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 1, 24, 24, dtype=torch.bool)
    masks[..., 6:18, 4:12] = True
    return pixels, masks, {"on": masks.float(), "off": (~masks).float()}


def test_montage(case, tmp_path):
    figure = montage(*case, ["cat", "dog"])
    assert len(figure.axes) == 6
    assert [a.get_title() for a in figure.axes[:3]] == ["image, mask", "on", "off"]
    assert figure.axes[0].get_ylabel() == "cat"
    figure.savefig(tmp_path / "m.png")
    assert matplotlib.image.imread(tmp_path / "m.png").std() > 0.05


def test_montage_without_masks(case):
    figure = montage(case[0], None, case[2])
    assert figure.axes[0].get_title() == "image"
    assert not any(axes.lines for axes in figure.axes)


def test_the_map_is_drawn_where_it_is(case):
    """The overlay's array is the heatmap itself, from 0 to its upper quantile."""
    figure = montage(*case)
    overlay = figure.axes[1].images[1]
    assert np.array_equal(overlay.get_array(), case[1][0, 0])
    assert overlay.get_clim() == (0, 1)


def test_undefined_maps_say_so(case):
    pixels, masks, _ = case
    figure = montage(pixels, masks, {"zero": torch.zeros(2, 1, 24, 24), "nan": torch.full((2, 1, 24, 24), torch.nan)})
    assert all(figure.axes[i].texts[0].get_text() == "undefined" for i in (1, 2, 4, 5))


def test_one_hot_pixel_is_still_drawn(case):
    pixels, masks, _ = case
    heatmap = torch.zeros(2, 1, 24, 24)
    heatmap[..., 5, 5] = 3.0
    assert montage(pixels, masks, {"hot": heatmap}).axes[1].images[1].get_clim() == (0, 3)


def test_contours_follow_the_mask():
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:10, 3:8] = True
    ((x, y),) = contours(mask)
    assert (x.min(), x.max(), y.min(), y.max()) == (3, 7, 5, 9)
    assert (x[0], y[0]) == (x[-1], y[-1])
    assert contours(np.zeros((4, 4), dtype=bool)) == []


def test_montage_errors(case):
    pixels, masks, heatmaps = case
    with pytest.raises(ValueError, match="`masks` must be a bool tensor"):
        montage(pixels, masks.float(), heatmaps)
    with pytest.raises(ValueError, match=r"`heatmaps\['a'\]` must be a floating-point tensor"):
        montage(pixels, masks, {"a": pixels})
    with pytest.raises(ValueError, match="`row_titles` must have one per image"):
        montage(pixels, masks, heatmaps, ["cat"])


def test_tables():
    lines = [
        {"metric": "focus", "method": m, "training": t, "mean": 0.5, "low": 0.4, "high": 0.6, "n": n, "undefined": u}
        for m, n, u in (("b", 9, 0), ("a", 7, 2), ("c", 0, 9))
        for t in ("sib", "ce")
    ]
    table = metric_table(pd.DataFrame(lines), "focus", order=["ce", "sib"])
    assert list(table.columns) == ["ce", "sib"]
    assert table.loc["b", "ce"] == "0.500 [0.400, 0.600]"
    assert table.loc["a", "sib"] == "0.500 [0.400, 0.600] (2 undefined)"
    assert table.loc["c", "sib"] == "undefined"
    text = to_markdown(table, "method").splitlines()
    assert len({len(line) for line in text}) == 1
    assert text[0].startswith("| method | ce ")
    assert text[2].startswith("| b ")
    with pytest.raises(ValueError, match="`metric` must be one of focus"):
        metric_table(pd.DataFrame(lines), "fokus")
