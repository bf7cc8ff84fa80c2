"""Charts and compared maps: what they draw is the data, in one style, on one scale."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from matplotlib.container import ErrorbarContainer

from sibx.evaluation import Band, Interval, bootstrap_band, bootstrap_mean
from sibx.report import compare_maps, curve_panel, heat_table, interval_bars, relative, training_panel
from sibx.report.figures import quality
from sibx.report.maps import Scale, is_defined, paint, shared_scale
from sibx.report.style import looks, styled

X = np.linspace(0, 1, 7)


def band(seed, power=1):
    noise = np.random.default_rng(seed).normal(0, 0.05, (12, 7))
    return bootstrap_band((1 - X) ** power + noise)


def texts(figure):
    return [t.get_text() for axes in figure.axes for t in axes.texts]


def legend(figure):
    return [t.get_text() for found in figure.legends for t in found.get_texts()]


class TestBand:
    def test_is_the_interval_at_every_point(self):
        curves = np.random.default_rng(0).random((9, 4))
        curves[2] = np.nan
        found = bootstrap_band(curves)
        for point in range(4):
            expected = bootstrap_mean(curves[:, point])
            at_point = found.mean[point], found.low[point], found.high[point], found.n, found.undefined
            assert at_point == pytest.approx(tuple(expected))

    def test_a_curve_with_a_hole_is_undefined(self):
        curves = np.ones((3, 4))
        curves[1, 2] = np.nan
        assert (bootstrap_band(curves).n, bootstrap_band(curves).undefined) == (2, 1)

    def test_no_curve(self):
        found = bootstrap_band(np.full((2, 3), np.nan))
        assert (found.n, found.undefined) == (0, 2)
        assert np.isnan([found.mean, found.low, found.high]).all()
        assert found.mean.shape == (3,)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"curves": np.ones(3)}, "`curves` must be two-dimensional"),
            ({"resamples": 0}, "`resamples` must be at least 1"),
            ({"level": 1.5}, "`level` must lie in"),
        ],
    )
    def test_errors(self, options, message):
        with pytest.raises(ValueError, match=message):
            bootstrap_band(**{"curves": np.ones((2, 3)), **options})


class TestStyle:
    def test_leaves_no_trace(self):
        before = dict(mpl.rcParams)
        curve_panel(X, {"ce": band(0)})
        assert dict(mpl.rcParams) == before
        assert pyplot.get_fignums() == []
        with styled():
            assert mpl.rcParams["axes.spines.top"] is False

    def test_series_differ_by_more_than_color(self):
        seven = list(looks("abcdefg").values())
        for part in ("color", "dash", "hatch"):
            assert len({getattr(look, part) for look in seven}) == 7
        assert looks("abcdefgh")["h"] == looks("abcdefgh")["a"]


class TestCurvePanel:
    def test_draws_the_bands(self):
        bands = {"ce": band(0), "sib": band(1, 2)}
        figure = curve_panel(X, bands, x_label="share", y_label="probability")
        (axes,) = figure.axes
        for line, area, found in zip(axes.lines, axes.collections, bands.values(), strict=True):
            assert np.array_equal(line.get_ydata(), found.mean)
            corners = area.get_paths()[0].vertices
            assert (corners[:, 1].min(), corners[:, 1].max()) == (found.low.min(), found.high.max())
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("share", "probability")
        assert legend(figure) == ["ce", "sib"]
        assert legend(curve_panel(X, bands, legend=False)) == legend(curve_panel(X, {"ce": band(0)})) == []

    def test_scores_below_zero_are_shown(self):
        """Those of ``output="raw"``; probabilities stand on 0."""
        found = band(0)
        low, high = (Band(*(part + by for part in found[:3]), *found[3:]) for by in (-9, 9))
        assert curve_panel(X, {"ce": low}).axes[0].get_ylim()[0] <= low.low.min() < 0
        assert curve_panel(X, {"ce": high}).axes[0].get_ylim()[0] == 0

    def test_a_series_without_a_curve_is_left_out(self):
        figure = curve_panel(X, {"ce": bootstrap_band(np.full((2, 7), np.nan)), "sib": band(1)})
        assert [line.get_label() for line in figure.axes[0].lines] == ["sib"]
        assert figure.axes[0].lines[0].get_color() == looks(["ce", "sib"])["sib"].color  # whatever is missing

    def test_errors(self):
        with pytest.raises(ValueError, match="`bands` must hold at least one series"):
            curve_panel(X, {})
        with pytest.raises(ValueError, match=r"`bands\['ce'\]` must have the 3 points of x, but got \(7,\)"):
            curve_panel(X[:3], {"ce": band(0)})


class TestIntervalBars:
    def test_draws_means_and_intervals(self):
        figure = interval_bars({"ce": {"a": Interval(0.5, 0.25, 0.625, 8, 0)}, "sib": {"a": Interval(1, 1, 1, 8, 0)}})
        (axes,) = figure.axes
        errors = [c.lines[2][0].get_segments() for c in axes.containers if isinstance(c, ErrorbarContainer)]
        ends = [[segment[:, 0].tolist() for segment in series] for series in errors]
        assert [p.get_width() for p in axes.patches] == [0.5, 1]
        assert ends == [[[0.25, 0.625]], [[1, 1]]]
        assert legend(figure) == ["ce", "sib"]

    def test_what_is_missing_or_undefined_has_no_bar(self):
        nothing = Interval(np.nan, np.nan, np.nan, 0, 8)
        figure = interval_bars({"ce": {"a": Interval(1, 1, 1, 8, 0)}, "sib": {"a": nothing, "b": nothing}})
        (axes,) = figure.axes
        assert len(axes.patches) == 1
        assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]

    @pytest.mark.parametrize("intervals", [{}, {"ce": {}}])
    def test_errors(self, intervals):
        with pytest.raises(ValueError, match="`intervals` must hold at least one series with a condition"):
            interval_bars(intervals)


class TestTrainingPanel:
    def test_draws_the_epochs(self):
        histories = {
            "start": [{"epoch": 1.0, "other": 3.0}],
            "ce": [{"epoch": 1.0, "val_accuracy": 0.5}, {"epoch": 2.0}, {"epoch": 3.0, "val_accuracy": 0.75}],
        }
        figure = training_panel(histories, "val_accuracy")
        (line,) = figure.axes[0].lines
        assert line.get_xydata().tolist() == [[1, 0.5], [3, 0.75]]
        assert figure.axes[0].get_ylabel() == "val accuracy"
        with pytest.raises(ValueError, match="`quantity` must be in at least one"):
            training_panel(histories, "loss")

    def test_one_epoch_and_equal_values_stay_what_they_are(self):
        lines = {name: [{"epoch": 1, "focus": 0.7 + spread}] for name, spread in (("sib", 0.0), ("ce", 3e-8))}
        figure = training_panel(lines, "focus")
        figure.draw_without_rendering()
        axes = figure.axes[0]
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]
        assert {text.get_text() for text in axes.get_xticklabels()} >= {"1"}
        assert axes.yaxis.get_offset_text().get_text() == ""
        assert axes.get_ylim() == pytest.approx((0.6965, 0.7035), abs=1e-4)


VALUES = pd.DataFrame(
    {"foreground_focus": [0.2, 0.4, np.nan], "deletion": [0.1, 0.3, 0.2], "own": 1.0, "flat": 0.5},
    index=["sib", "gradcam", "vjp"],
)
DIRECTIONS = {"foreground_focus": True, "deletion": False, "flat": True}


class TestHeatTable:
    def test_quality(self):
        expected = pd.DataFrame(
            {"foreground_focus": [0, 1, np.nan], "deletion": [1, 0, 0.5], "own": np.nan, "flat": np.nan},
            index=VALUES.index,
        )
        pd.testing.assert_frame_equal(quality(VALUES, DIRECTIONS), expected)

    def test_draws_every_value(self):
        figure = heat_table(VALUES, DIRECTIONS)
        row = ["0.200", "0.100", "1.000", "0.500"]
        assert texts(figure)[:4] == row
        assert texts(figure)[8] == "undefined"
        assert figure.axes[0].get_xticklabels()[0].get_text() == "foreground\nfocus"
        colors = [t.get_color() for t in figure.axes[0].texts]
        assert colors[1] == "white" != colors[0]  # white on the dark cell of the best

    def test_errors(self):
        with pytest.raises(ValueError, match="`values` must have at least one cell"):
            heat_table(pd.DataFrame(), {})


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    masks[..., 4:12, 4:8] = True
    return torch.rand(2, 3, 16, 16, generator=generator), masks, torch.rand(2, 1, 16, 16, generator=generator)


def shown(figure, row, column, columns):
    """What a cell shows; the color bars come after the cells."""
    return figure.axes[row * columns + column].images[0].get_array()


class TestCompareMaps:
    def test_one_scale_per_row(self, case):
        pixels, masks, maps = case
        columns = {"ce": maps, "sib": 3 * maps}
        figure = compare_maps(pixels, masks, columns, ["cat", "dog"], unit="x mean")
        assert [a.get_title() for a in figure.axes[:3]] == ["image, mask", "ce", "sib"]
        assert [figure.axes[i].get_ylabel() for i in (0, 3)] == ["cat", "dog"]
        for row, bar in enumerate(figure.axes[6:]):
            pair = [m[row, 0].numpy() for m in columns.values()]
            scale = shared_scale(pair, signed=False)
            assert bar.get_ylim() == pytest.approx((0, scale.high))
            assert bar.get_ylabel() == "x mean"
            picture = pixels[row].permute(1, 2, 0).numpy()
            for column, heatmap in enumerate(pair, start=1):
                assert np.allclose(shown(figure, row, column, 3), paint(picture, heatmap, scale))

    def test_signed_maps_diverge_around_zero(self, case):
        pixels, masks, maps = case
        signed = maps.clone()
        signed[0] -= 0.9
        figure = compare_maps(pixels, masks, {"ce": signed}, opacity=1)
        for row, bar in enumerate(figure.axes[4:]):  # of both rows, though one has no negative value
            low, high = bar.get_ylim()
            assert low == -high == pytest.approx(-np.quantile(signed[row].abs(), 0.995))
        flat = torch.zeros(2, 1, 16, 16)
        flat[..., 0, 0] = -1
        middle = shown(compare_maps(pixels, masks, {"ce": flat}, opacity=1), 0, 1, 2)[8, 8]
        assert np.allclose(middle, mpl.colormaps["RdBu_r"](0.5)[:3], atol=0.01)

    def test_undefined_maps_leave_the_image_bare(self, case):
        pixels, masks, maps = case
        broken = maps.clone()
        broken[0, 0, 3, 3] = torch.nan
        broken[1] = 0
        figure = compare_maps(pixels, masks, {"broken": broken, "whole": maps})
        assert texts(figure) == ["undefined", "undefined"]
        gray = pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
        assert np.allclose(shown(figure, 0, 1, 3), gray[0])
        assert figure.axes[6].get_ylim()[1] == pytest.approx(np.quantile(maps[0], 0.995))

    def test_contours_in_every_cell(self, case):
        figure = compare_maps(case[0], case[1], {"ce": case[2]})
        assert [len(a.lines) for a in figure.axes[:4]] == [1] * 4

    def test_errors(self, case):
        pixels, masks, maps = case
        with pytest.raises(ValueError, match="`maps` must hold at least one column"):
            compare_maps(pixels, masks, {})
        with pytest.raises(ValueError, match=r"`maps\['ce'\]` must be a floating-point tensor"):
            compare_maps(pixels, masks, {"ce": pixels})
        with pytest.raises(ValueError, match="`row_titles` must have one per image"):
            compare_maps(pixels, masks, {"ce": maps}, ["cat"])


class TestScale:
    def test_one_hot_pixel_does_not_blank_the_rest(self):
        heatmap = np.ones((40, 40))
        heatmap[0, 0] = 1e6
        assert shared_scale([heatmap], signed=False) == Scale(0, 1, "inferno")

    def test_but_is_seen_where_it_is_all(self):
        heatmap = np.zeros((40, 40))
        heatmap[0, 0] = -3
        assert shared_scale([heatmap], signed=True) == Scale(-3, 3, "RdBu_r")

    def test_without_a_defined_map(self):
        assert shared_scale([np.zeros((2, 2)), np.full((2, 2), np.inf)], signed=False) == Scale(0, 1, "inferno")

    def test_defined(self):
        assert [is_defined(np.array(v)) for v in ([0, 1], [0, 0], [1, np.inf], [np.nan, 1])] == [True, *[False] * 3]


class TestRelative:
    def test_one_is_the_level_of_a_flat_map(self):
        maps = torch.tensor([2.0, -6.0, 0.0, torch.nan, torch.inf]).reshape(5, 1, 1, 1).expand(5, 1, 3, 4).clone()
        found = relative(maps)
        assert (found[0] == 1).all()
        assert (found[1] == -1).all()
        assert found[2:].isnan().all()
        assert found.dtype == maps.dtype

    def test_does_not_depend_on_scale_and_batch(self, case):
        assert torch.allclose(relative(1e6 * case[2]), relative(case[2]))
        assert torch.equal(relative(case[2])[1:], relative(case[2][1:]))
        assert torch.allclose(relative(case[2]).mean((1, 2, 3)), torch.ones(2))

    def test_errors(self):
        with pytest.raises(ValueError, match="`heatmaps` must be a floating-point tensor of shape"):
            relative(torch.ones(3, 3))
