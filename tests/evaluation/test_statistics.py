"""Paired tests, rankings, agreement of metrics, strata of size, and the views of Results that use them."""

import dataclasses
import itertools
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from sibx import Results, evaluate
from sibx.datasets import InMemoryDataset
from sibx.evaluation import (
    CELL,
    Ranking,
    bootstrap_band,
    bootstrap_class_mean,
    bootstrap_difference,
    bootstrap_mean,
    holm,
    rank_correlations,
    rank_methods,
    size_of,
    wilcoxon_signed_rank,
)
from sibx.evaluation.classified import to_balanced
from sibx.report import critical_difference
from tests.helpers.reports import make_results
from tests.references import statistics as reference


def draw(seed, *shape, levels=None, undefined=0.0):
    """Normal values, rounded to few levels where ties are wanted, some of them NaN."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=shape) if levels is None else generator.integers(levels, size=shape).astype(float)
    values[generator.random(shape) < undefined] = np.nan
    return values


class TestWilcoxon:
    @pytest.mark.parametrize("seed", range(20))
    def test_small_samples_are_exact(self, seed):
        """Over all signs, with ties, zeros and undefined values."""
        levels, undefined = [None, 4, 2][seed % 3], [0.0, 0.3][seed % 2]
        values, others = (draw((seed, i), 3 + seed % 8, levels=levels, undefined=undefined) for i in range(2))
        found = wilcoxon_signed_rank(values, others)
        differences = values - others
        assert found.undefined == np.isnan(differences).sum()
        assert (found.n, found.zeros) == ((~np.isnan(differences)).sum(), (differences == 0).sum())
        if found.n:
            assert (found.statistic, found.p_value) == pytest.approx(reference.wilcoxon_exact(differences))

    @pytest.mark.parametrize("n", [10, 50])
    def test_scipys_exact_p(self, n):
        values, others = draw(0, n), draw(1, n) + 0.3
        expected = stats.wilcoxon(values, others, method="exact")
        assert wilcoxon_signed_rank(values, others)[:2] == pytest.approx((expected.statistic, expected.pvalue))

    @pytest.mark.parametrize("levels", [None, 5])
    def test_scipys_approximation(self, levels):
        values, others = draw(0, 400, levels=levels), draw(1, 400, levels=levels)
        expected = stats.wilcoxon(values, others)  # too many for the exact p
        assert wilcoxon_signed_rank(values, others)[:2] == pytest.approx((expected.statistic, expected.pvalue))

    def test_the_two_forms_meet(self):
        values, zero = draw(0, 51), np.zeros(51)
        exact, approximate = (wilcoxon_signed_rank(values[:n], zero[:n]) for n in (50, 51))
        assert exact.p_value == pytest.approx(approximate.p_value, abs=0.05)

    def test_the_level_is_held(self):
        pairs = [(draw((i, 0), 12, levels=3), draw((i, 1), 12, levels=3)) for i in range(400)]
        assert np.mean([wilcoxon_signed_rank(*pair).p_value <= 0.05 for pair in pairs]) <= 0.05

    def test_no_difference_and_nothing(self):
        assert wilcoxon_signed_rank(np.ones(3), np.ones(3)) == (0, 1, 3, 3, 0)
        nothing = wilcoxon_signed_rank(np.full(2, np.nan), np.ones(2))
        assert np.isnan(nothing[:2]).all()
        assert nothing[2:] == (0, 0, 2)

    def test_errors(self):
        with pytest.raises(ValueError, match="`values` must be one-dimensional, one per image"):
            wilcoxon_signed_rank(np.zeros((2, 2)), np.zeros((2, 2)))
        with pytest.raises(ValueError, match=r"`reference` must have the shape \(2,\), but got \(3,\)"):
            wilcoxon_signed_rank(np.zeros(2), np.zeros(3))


class TestHolm:
    @pytest.mark.parametrize("seed", range(10))
    def test_is_the_step_down_procedure(self, seed):
        p_values = np.random.default_rng(seed).random(seed + 1) ** 2
        p_values[: seed // 2] = p_values[-1]  # ties
        assert holm(p_values) == pytest.approx(reference.holm(p_values.tolist()))

    def test_a_known_case(self):
        """Worked by hand: 4 x .005, 3 x .01, then .04 is raised to 2 x .03."""
        assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_nan_is_no_test(self):
        adjusted = holm(np.array([np.nan, 0.02, 0.03]))
        assert np.isnan(adjusted[0])
        assert adjusted[1:] == pytest.approx([0.04, 0.04])
        assert len(holm(np.array([]))) == 0

    def test_errors(self):
        with pytest.raises(ValueError, match="`p_values` must be one-dimensional"):
            holm(np.zeros((2, 2)))
        with pytest.raises(ValueError, match=r"`p_values` must lie in \[0, 1\]"):
            holm(np.array([0.5, 1.5]))


class TestRanking:
    @pytest.mark.parametrize("seed", range(12))
    def test_is_demsars(self, seed):
        scores = draw(seed, 3 + seed, 2 + seed % 4, levels=[None, 3][seed % 2], undefined=0.1)
        names, higher = [f"m{i}" for i in range(scores.shape[1])], seed % 3 > 0
        found = rank_methods(scores, names, higher_is_better=higher)
        missing = np.isnan(scores).any(1)
        assert (found.n, found.undefined) == ((~missing).sum(), missing.sum())
        means, statistic = reference.friedman(scores, higher)
        assert [found.mean_ranks[name] for name in names] == pytest.approx(means)
        assert list(found.mean_ranks.values()) == sorted(found.mean_ranks.values())
        assert found.statistic == pytest.approx(statistic)
        assert [found.undefined_by[name] for name in names] == np.isnan(scores).sum(0).tolist()

    def test_scipys_friedman(self):
        scores = draw(0, 30, 5, levels=4)
        expected = stats.friedmanchisquare(*scores.T)
        found = rank_methods(scores, list("abcde"), higher_is_better=True)
        assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))

    @pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
    def test_demsars_table_of_critical_values(self, k, q):
        """Table 5 (a) of the paper, at .05; the distance is that many standard errors."""
        found = rank_methods(draw(0, 25, k), [f"{i}" for i in range(k)], higher_is_better=True)
        assert found.critical_difference == pytest.approx(q * (k * (k + 1) / (6 * 25)) ** 0.5, abs=1e-3)

    def test_demsars_example(self):
        """Section 3.2.2: C4.5 and its variants, mean ranks 3.143, 2.000, 2.893, 1.964 over 14 sets; CD 1.25."""
        scores = [
            *([0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967]),
            *([0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931]),
            *([0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875]),
            *([1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669]),
            *([0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970]),
        ]
        found = rank_methods(np.array(scores), ["C4.5", "m", "cf", "m+cf"], higher_is_better=True)
        assert found.mean_ranks == pytest.approx({"m+cf": 1.964, "m": 2.000, "cf": 2.893, "C4.5": 3.143}, abs=5e-4)
        assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
        assert found.groups == (("m+cf", "m", "cf", "C4.5"),)

    def test_groups_hold_what_does_not_differ(self):
        scores = draw(0, 40, 7) + np.linspace(0, 2, 7)
        found = rank_methods(scores, list("abcdefg"), higher_is_better=True)
        assert next(iter(found.mean_ranks)) == "g"
        assert 1 < len(found.groups) < 7
        for a, b in itertools.combinations("abcdefg", 2):
            far = abs(found.mean_ranks[a] - found.mean_ranks[b]) >= found.critical_difference
            assert far != any(a in group and b in group for group in found.groups)
        table = found.table()
        assert table["method"].tolist() == list(found.mean_ranks)
        assert table["groups"][0] == "a"
        assert "a" not in table["groups"].iloc[-1]

    def test_lower_is_better_turns_ranks_around(self):
        scores = draw(0, 9, 3, levels=3)
        up, down = (rank_methods(scores, list("abc"), higher_is_better=h).mean_ranks for h in (True, False))
        assert all(up[m] + down[m] == pytest.approx(4) for m in "abc")

    def test_equal_methods_and_no_image(self):
        equal = rank_methods(np.ones((4, 3)), list("abc"), higher_is_better=True)
        assert (equal.statistic, equal.p_value, equal.groups) == (0, 1, (("a", "b", "c"),))
        nothing = rank_methods(np.full((4, 2), np.nan), list("ab"), higher_is_better=True)
        assert np.isnan([*nothing.mean_ranks.values(), nothing.critical_difference, nothing.p_value]).all()
        assert (nothing.n, nothing.undefined, nothing.groups) == (0, 4, (("a", "b"),))

    def test_more_groups_than_letters(self):
        names = [f"m{i:02}" for i in range(30)]
        table = rank_methods(np.tile(np.arange(30.0), (9999, 1)), names, higher_is_better=False).table()
        assert table["groups"].tolist()[-4:] == ["(27)", "(28)", "(29)", "(30)"]

    def test_errors(self):
        with pytest.raises(ValueError, match=r"`scores` must be \(N, k\) with a column for each of k >= 2 methods"):
            rank_methods(np.zeros((3, 1)), ["a"], higher_is_better=True)
        with pytest.raises(ValueError, match=r"`level` must lie in \[0, 1\]"):
            rank_methods(np.zeros((3, 2)), ["a", "b"], higher_is_better=True, level=5)


class TestCorrelation:
    @pytest.mark.parametrize("levels", [None, 3])
    def test_is_spearmans(self, levels):
        scores = draw(0, 15, 5, levels=levels, undefined=0.2)
        scores[:, 3] = 2.0  # constant
        scores[1:, 4] = np.nan
        found, counts = rank_correlations(scores)
        for i, j in itertools.product(range(5), repeat=2):
            expected, n = reference.spearman(scores[:, i], scores[:, j])
            assert found[i, j] == pytest.approx(expected, nan_ok=True)
            assert counts[i, j] == n

    def test_scipys(self):
        scores = draw(0, 30, 2, levels=6)
        assert rank_correlations(scores)[0][0, 1] == pytest.approx(stats.spearmanr(*scores.T).statistic)

    def test_errors(self):
        with pytest.raises(ValueError, match=r"`scores` must be \(N, M\), a row per image and a column per metric"):
            rank_correlations(np.zeros(3))


class TestSize:
    def test_tertiles(self):
        areas = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.0, np.nan])
        names = ["small"] * 2 + ["medium"] * 2 + ["large"] * 2 + ["no object"] * 2
        assert size_of(areas).tolist() == names

    def test_coco(self):
        pixels = np.array([1, 32**2, 32**2 + 1, 96**2, 96**2 + 1, 640 * 480, 0])
        names = ["small", "small", "medium", "medium", "large", "large", "no object"]
        assert size_of(pixels / (640 * 480), "coco").tolist() == names

    def test_limits_of_ones_own(self):
        assert size_of(np.array([0.2, 0.3, 0.9]), (0.2, 0.5)).tolist() == ["small", "medium", "large"]

    def test_no_object_at_all(self):
        assert size_of(np.zeros(2)).tolist() == ["no object"] * 2

    def test_errors(self):
        with pytest.raises(ValueError, match="`sizes` must be one of tertiles, coco, but got 'coko'"):
            size_of(np.ones(2), "coko")
        with pytest.raises(ValueError, match=r"`sizes` must be two increasing shares, but got \(0.5, 0.2\)"):
            size_of(np.ones(2), (0.5, 0.2))


@pytest.fixture(scope="module")
def results(shapes):
    """Two trainings of a network that looks at brightness, three methods, one image without an object."""
    samples = [s._replace(mask=s.mask & (i != 4)) for i, s in enumerate(shapes.samples)]
    undefined = torch.zeros(1, 32, 32, dtype=torch.bool)
    undefined[:, :8] = True
    samples[0] = samples[0]._replace(undefined=undefined)
    methods = {"abs": lambda x, _: x.abs().sum(1, keepdim=True), "center": "control_center", "random": "control_random"}
    request = {"methods": methods, "metrics": ["foreground_focus", "deletion", "iou"], "progress": False}
    parts = []
    for training, shift in (("ce", 0.0), ("sib", 0.4)):
        moved = [s._replace(image=s.image + shift * s.mask) for s in samples]
        data = InMemoryDataset(shapes, moved)
        parts.append(evaluate(lambda x: x.mean((2, 3)), data, labels={"training": training}, **request))
    return Results.concat(parts)


class TestResults:
    def test_area(self, results, shapes):
        areas = results.rows.drop_duplicates("image_id")["area"].to_numpy()
        first = shapes[0].mask[:, 8:].double().mean().item()  # of the pixels that count
        expected = [first, *(s.mask.double().mean().item() for s in shapes.samples[1:])]
        assert areas == pytest.approx(np.where(np.arange(24) == 4, 0, expected))

    def test_files_without_areas_are_read(self, results, tmp_path):
        old = Results(results.rows, results.curves)
        old.rows.drop(columns="area").to_csv(old.save(tmp_path) / "results.csv.gz", index=False)
        loaded = Results.load(tmp_path)
        assert loaded.rows["area"].isna().all()
        assert loaded.rows.columns.tolist() == results.rows.columns.tolist()
        assert (loaded.with_size().rows["size"] == "no object").all()

    def test_difference(self, results):
        table = results.difference("sib", "ce")
        assert len(table) == 9
        cells = results.rows.query("method == 'abs' and metric == 'foreground_focus'")
        sib, ce = (cells.query("training == @t")["value"].to_numpy() for t in ("sib", "ce"))
        line = table.query("method == 'abs' and metric == 'foreground_focus'").iloc[0]
        assert line["p_value"] == wilcoxon_signed_rank(sib, ce).p_value
        assert tuple(line[["mean", "low", "high", "n", "undefined"]]) == bootstrap_difference(sib, ce)
        assert (line["n"], line["undefined"]) == (23, 1)
        assert table["p_holm"].tolist() == holm(table["p_value"].to_numpy()).tolist()
        unchanged = table.query("method == 'center' and metric == 'iou'").iloc[0]
        assert (unchanged["p_value"], unchanged["p_holm"]) == (1, 1)

    def test_the_family_is_one_data_set_split_and_model(self, results):
        other = dataclasses.replace(results, rows=results.rows.assign(model="other"))
        both = Results.concat([results, other]).difference("sib", "ce")
        assert both.iloc[:9]["p_holm"].tolist() == results.difference("sib", "ce")["p_holm"].tolist()

    def test_the_last_bits_of_a_score_are_no_rank(self, results):
        """Grad-CAM and HiResCAM of a last layer are the same map, up to rounding."""
        one = results.where(training="sib")
        rows = one.rows[one.rows["metric"] == "deletion"]
        first = rows["method"].iloc[0]
        twin = rows[rows["method"] == first].assign(method="twin", value=lambda t: t["value"] * (1 + 1e-8))
        found = Results(pd.concat([rows, twin], ignore_index=True), one.curves).ranking("deletion")
        assert found.mean_ranks["twin"] == found.mean_ranks[first]

    def test_ranking(self, results):
        one = results.where(training="sib")
        found = one.ranking("deletion")
        wide = one.rows.query("metric == 'deletion'").pivot(index="image_id", columns="method", values="value")
        methods = ["abs", "center", "random"]
        assert found == rank_methods(wide[methods].to_numpy(), methods, higher_is_better=False)
        assert one.ranking("iou").undefined == 1
        own = dataclasses.replace(one, rows=one.rows.replace({"metric": {"iou": "mine"}}))
        assert own.ranking("mine", higher_is_better=True) == one.ranking("iou")

    def test_ranking_errors(self, results):
        with pytest.raises(
            ValueError, match=r"`rows` must be of one training \(pick it with where\), but got \['ce', 's"
        ):
            results.ranking("iou")
        one = results.where(training="ce")
        with pytest.raises(ValueError, match="`metric` must be one of foreground_focus, deletion, iou, but got 'iuo'"):
            one.ranking("iuo")
        own = dataclasses.replace(one, rows=one.rows.replace({"metric": {"iou": "mine"}}))
        with pytest.raises(ValueError, match="`higher_is_better` must be given for mine, which is not in METRICS"):
            own.ranking("mine")

    def test_metric_correlation(self, results):
        table = results.metric_correlation()
        assert len(table) == 2 * 3 * 3
        line = table.query("training == 'sib' and method == 'abs' and metric == 'foreground_focus' and other == 'iou'")
        rows = results.rows.query("training == 'sib' and method == 'abs'")
        focus, iou = (rows.query("metric == @m")["value"].to_numpy() for m in ("foreground_focus", "iou"))
        expected, n = reference.spearman(focus, iou)
        assert line["correlation"].item() == pytest.approx(expected)
        assert (line["n"].item(), line["undefined"].item()) == (n, 24 - n) == (23, 1)

    def test_metric_correlation_of_one_metric(self, results):
        assert results.where(metric="iou").metric_correlation().empty

    def test_where(self, results):
        image = results.rows["image_id"].iloc[0]
        one = results.where(training="ce", method="abs", metric="deletion", image_id=image)
        assert len(one.rows) == 1
        assert np.trapezoid(one.curves["y"], one.curves["x"]) == pytest.approx(one.rows["value"].item())
        with pytest.raises(ValueError, match=r"`values` must be one of dataset, .*but got 'trainig'"):
            results.where(trainig="ce")
        with pytest.raises(ValueError, match=r"`training` must be one of \['ce', 'sib'\], but got 'none'"):
            results.where(training="none")

    def test_summary_by_size(self, results):
        table = results.with_size().summary([*CELL, "size"])
        assert len(table) == 2 * 3 * 3 * 4
        cell = table.query("training == 'ce' and method == 'abs' and metric == 'foreground_focus'").set_index("size")
        counts = cell[["n", "undefined"]].sum(axis=1)
        assert counts.sum() == 24
        assert (counts["no object"], cell.loc["no object", "undefined"]) == (1, 1)
        assert sorted(counts[["small", "medium", "large"]]) == [7, 8, 8]
        areas = results.with_size().rows.drop_duplicates("image_id").groupby("size", observed=True)["area"]
        assert areas.max()["small"] < areas.min()["medium"] <= areas.max()["medium"] < areas.min()["large"]
        again = results.with_size("coco").with_size().summary([*CELL, "size"])
        pd.testing.assert_frame_equal(again, table)

    def test_tertiles_are_those_of_a_data_set(self, results):
        other = results.rows.assign(dataset="other", area=results.rows["area"] * 0.1)
        both = Results.concat([results, Results(other, results.curves)]).with_size().rows
        sizes = [both.query("dataset == @d")["size"].tolist() for d in ("synthetic", "other")]
        assert sizes[0] == sizes[1] == results.with_size().rows["size"].tolist()


class TestCriticalDifference:
    @pytest.fixture
    def ranking(self):
        return rank_methods(draw(0, 40, 7) + np.linspace(0, 2, 7), list("abcdefg"), higher_is_better=True)

    def test_bars_join_the_groups(self, ranking):
        (axes,) = critical_difference(ranking).axes
        bars = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 4]
        joined = [group for group in ranking.groups if len(group) > 1]
        assert len(bars) == len(joined)
        for bar, group in zip(bars, joined, strict=True):
            inside = [m for m, rank in ranking.mean_ranks.items() if bar[0] <= rank <= bar[1]]
            assert tuple(inside) == group

    def test_labels(self, ranking, tmp_path):
        ranking = dataclasses.replace(ranking, undefined=3)
        figure = critical_difference(ranking, {"g": "the best"})
        texts = [t.get_text() for t in figure.axes[0].texts]
        assert f"the best  {ranking.mean_ranks['g']:.2f}" in texts
        assert f"{ranking.mean_ranks['a']:.2f}  a" in texts
        assert any("40 images, 3 undefined" in t for t in texts)
        figure.savefig(tmp_path / "cd.png")

    def test_many_methods_and_few_images(self):
        """The line is as long as the critical difference, its numbers do not run into each other."""
        ranking = rank_methods(draw(0, 3, 25), [f"{i}" for i in range(25)], higher_is_better=True)
        axes = critical_difference(ranking).axes[0]
        line = axes.lines[0].get_xdata()
        assert line[1] - line[0] >= ranking.critical_difference
        assert sum(t.get_text().isdigit() for t in axes.texts) <= 13

    def test_errors(self):
        nothing = rank_methods(np.full((4, 2), np.nan), list("ab"), higher_is_better=True)
        assert isinstance(nothing, Ranking)
        with pytest.raises(ValueError, match="`ranking` must be of at least one image, but got 0"):
            critical_difference(nothing)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_a_band_is_the_interval_of_every_point(level):
    curves = draw(3, 12, 4)
    curves[2, 1] = np.nan  # a curve with a gap is left out, at every point
    band = bootstrap_band(curves, level=level, resamples=99)
    assert (band.n, band.undefined) == (11, 1)
    for point, column in enumerate(np.delete(curves, 2, axis=0).T):
        expected = bootstrap_mean(column, level=level, resamples=99)
        assert (band.mean[point], band.low[point], band.high[point]) == pytest.approx(expected[:3])


@pytest.mark.parametrize(("field", "value"), [("resamples", 0), ("level", 1.5), ("level", -0.1)])
def test_every_bootstrap_checks_its_numbers(field, value):
    values = np.arange(3.0)
    for estimate in (
        bootstrap_mean,
        partial(bootstrap_difference, reference=values),
        partial(bootstrap_class_mean, labels=[0, 1, 1]),
        lambda v, **options: bootstrap_band(v[:, None], **options),
    ):
        with pytest.raises(ValueError, match=f"`{field}` must"):
            estimate(values, **{field: value})


def test_a_mean_over_classes_counts_every_class_equally():
    """The balanced accuracy; its interval is that of draws of photographs."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 4], [20, 6, 3])
    values = np.where(rng.random(29) < 0.6, 1.0, 0.0)
    values[5] = np.nan
    found = bootstrap_class_mean(values, labels, resamples=300)

    def mean(rows):
        of_class = [values[rows][labels[rows] == c] for c in (0, 1, 4)]
        return np.mean([v.mean() for v in of_class if len(v)])

    known = np.flatnonzero(~np.isnan(values))
    draws = np.random.default_rng(0).integers(28, size=(300, 28))
    low, high = np.quantile([mean(known[drawn]) for drawn in draws], [0.025, 0.975])
    assert found == pytest.approx((mean(known), low, high, 28, 1))
    twice = bootstrap_class_mean(np.tile(values, 2), np.tile(labels, 2), photos=np.tile(range(29), 2), resamples=300)
    assert twice[:4] == pytest.approx(found[:4])
    assert bootstrap_class_mean(values * np.nan, labels).n == 0
    with pytest.raises(ValueError, match="`photos` must have the shape"):
        bootstrap_class_mean(values, labels, photos=range(3))
    with pytest.raises(ValueError, match=r"`labels` must have the shape \(29,\)"):
        bootstrap_class_mean(values, labels[:3])


def test_balanced_hits_have_the_mean_and_the_interval_of_class_means():
    results = make_results(images=200, hit=lambda _, image: image % 7 > 1 + (image % 4 == 3), curves=False)
    rows = results.rows.assign(label=(results.rows["label"] == 3).astype(int))
    rows["predicted"] = rows["label"].where(results.rows["label"] == results.rows["predicted"], 2)
    hits = Results(rows, results.curves).hits()
    balanced = Results(to_balanced(hits.rows), results.curves).summary()
    for found, expected in zip(balanced.to_dict("records"), hits.class_means().to_dict("records"), strict=True):
        assert found["mean"] == pytest.approx(expected["mean"])
        assert found["low"] == pytest.approx(expected["low"], abs=0.01)
        assert found["high"] == pytest.approx(expected["high"], abs=0.01)
