"""What stands in a report: names, numbers, tables, curves, cards and charts."""

import base64
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from sibx import Results
from sibx.evaluation import Interval, bootstrap_band, bootstrap_mean
from sibx.report.cards import data_cards, find_versions, model_cards
from sibx.report.claims import Scope
from sibx.report.content import gather
from sibx.report.curve_bands import MOST_POINTS
from sibx.report.names import curve_title, interval, mean_and_bounds, method_title, metric_title, number, scope_names
from sibx.report.panels import bar_panels, curve_panels, to_panel, training_panels
from sibx.report.paper import accuracy_table, classifier_tables, score_tables
from tests.helpers.reports import HOSTILE, make_results

PLENTY = 10**9  # characters
SVG = "{http://www.w3.org/2000/svg}"


def svg(panel):
    head, _, body = panel.source.partition(",")
    assert head == "data:image/svg+xml;base64"
    return ET.fromstring(base64.b64decode(body))


def test_numbers_that_are_read_keep_their_digits():
    figure = Figure()
    figure.text(0.123456789, 0.5, "p = 0.0032")
    text = ET.tostring(svg(to_panel(figure, "", "")), encoding="unicode")
    assert "p = 0.0032" in text


class TestNames:
    @pytest.mark.parametrize(
        ("value", "options", "text"),
        [
            (0.12345, {}, "0.123"),
            (-0.5, {}, "\N{MINUS SIGN}0.500"),
            (0.5, {"sign": True}, "+0.500"),
            (0.126, {"digits": 2}, "0.13"),
            (np.nan, {}, "\N{EN DASH}"),
        ],
    )
    def test_number(self, value, options, text):
        assert number(value, **options) == text

    def test_interval(self):
        assert interval(Interval(0.5, 0.4, 0.6, 9, 0)) == "0.500 [0.400, 0.600]"
        assert interval(Interval(-0.5, -0.6, -0.4, 9, 0)) == "−0.500 [−0.600, −0.400]"
        assert interval(Interval(0.5, -0.4, 0.6, 9, 0), sign=True) == "+0.500 [−0.400, +0.600]"
        assert interval(Interval(np.nan, np.nan, np.nan, 0, 9)) == "undefined"

    def test_interval_in_two_parts(self):
        assert mean_and_bounds(Interval(-0.5, -0.6, 0.4, 9, 0), sign=True) == ("−0.500", "[−0.600, +0.400]")
        assert mean_and_bounds(Interval(np.nan, np.nan, np.nan, 0, 9)) == ("undefined", "")

    def test_titles(self):
        assert (method_title("gradcam"), method_title("own")) == ("Grad-CAM", "own")
        assert (metric_title("iou"), metric_title("bg_gap"), metric_title("own")) == ("IoU", "Background gap", "own")
        assert curve_title("deletion") == "Deletion"

    @pytest.mark.parametrize(
        ("scopes", "names"),
        [
            ([("d", "s", "m")], ["s"]),
            ([("d", "s", "m"), ("d", "t", "m")], ["s", "t"]),
            ([("d", "s", "m"), ("e", "s", "n")], ["d, m", "e, n"]),
            ([("d", "s", ""), ("d", "t", "m")], ["s", "t, m"]),
        ],
    )
    def test_scopes_are_named_by_what_differs(self, scopes, names):
        assert list(scope_names([Scope(*s) for s in scopes]).values()) == names


class TestTables:
    def test_scores_are_those_of_the_summary(self):
        results = make_results(splits=("a", "b"), curves=False)
        content = gather(results)
        assert [t.scope for t in content.scores] == ["a", "b"]
        for line in results.summary().to_dict("records"):
            (table,) = (t for t in content.scores if t.scope == line["split"])
            (found,) = (
                found for found in table.lines if (found.training, found.method) == (line["training"], line["method"])
            )
            assert found.scores[line["metric"]] == tuple(line[f] for f in Interval._fields)

    def test_an_image_of_two_seeds_counts_once(self):
        random = np.random.default_rng(0)
        results = make_results(seeds=(0, 1), score=lambda *_: random.choice([0.0, 0.5, 1.0, np.nan]), curves=False)
        content = gather(results)
        for line in content.scores[0].lines:
            rows = results.where(training=line.training, method=line.method, metric="deletion").rows
            expected = bootstrap_mean(rows.groupby("image_id", sort=False, observed=True)["value"].mean().to_numpy())
            assert line.scores["deletion"] == pytest.approx(expected)

    def test_means(self):
        table = gather(make_results(curves=False)).scores[0]
        means = table.means()
        assert means.shape == (6, 2)
        assert means.loc[("ce", "control_center"), "deletion"] == pytest.approx(0.3 + 0.05 * 8 / 10)

    def test_a_metric_that_a_method_lacks(self):
        parts = [
            make_results(curves=False),
            make_results(methods=("saliency",), metrics=("deletion",), curves=False),
        ]
        content = gather(Results.concat(parts))
        assert np.isnan(content.scores[0].means().loc[("ce", "saliency"), "foreground_focus"])
        focus, deletion = score_tables(content)
        assert dict(focus.lines)["Saliency"] == [None, None]
        assert dict(deletion.lines)["Saliency"][0].n == 8

    def test_the_classifier_is_apart(self):
        explained = make_results(curves=False)
        own = make_results(methods=("classifier",), metrics=("original", "bg_gap"), curves=False)
        content = gather(Results.concat([explained, own]))
        assert content.scores[0].methods == ["sib", "gradcam", "control_center"]
        assert content.classifier[0].metrics == ["original", "bg_gap", "majority_rate"]
        (table,) = classifier_tables(content)
        assert table.title == "The classifier, accuracy, test"
        assert table.columns == ["As it is", "Background gap (lower is better)", "Always the commonest answer"]
        assert [(name, cells[2].mean) for name, cells in table.lines] == [("ce", 0.25), ("sib", 0.25)]

    def test_a_majority_classifier_does_not_look_good(self):
        """Of unequal classes means over classes come first, and say what always one class has of them."""
        own = make_results(methods=("classifier",), metrics=("original", "only_fg"), curves=False)
        rows = own.rows.assign(label=(own.rows["image_id"] == own.rows["image_id"].iloc[0]).astype(int), predicted=0)
        rows["value"] = (rows["label"] == 0).astype(float)
        content = gather(Results(rows, own.curves))
        classes, images = content.classifier
        assert classes.what == "mean accuracy of the classes; of one class always 0.500"
        assert {i.mean for line in classes.lines for i in line.scores.values()} == {0.5}
        assert images.lines[0].scores["original"] == images.lines[0].scores["majority_rate"]
        assert images.lines[0].scores["original"].mean == 7 / 8
        assert [p.alt.split(" 0.5")[0] for p in bar_panels(classes)] == ["ce: As it is"]

    def test_accuracy(self):
        """Averaged over seeds first, so that an image counts once."""
        first = make_results(hit=lambda t, i: i < 4, curves=False)
        second = make_results(hit=lambda t, i: t == "sib", seeds=(1,), curves=False)
        both = Results.concat([first, second])
        hits = {"ce": [0.5] * 4 + [0] * 4, "sib": [1] * 4 + [0.5] * 4}
        content = gather(both)
        for training, expected in hits.items():
            found = bootstrap_mean(np.array(expected, dtype=float))
            assert content.accuracies[training] == {"test": found}
            assert Interval.of(both.where(training=training).accuracy().iloc[0]) == found
        table = accuracy_table(content)
        assert (table.columns, table.best) == (["test"], {(1, 0)})
        name, (usual,) = table.lines[-1]
        assert (name, usual.mean) == ("Always the commonest answer", 0.25)

    def test_best_of_each_line_and_none_where_all_are_the_same(self):
        focus, deletion = score_tables(gather(make_results(curves=False)))
        assert focus.best == deletion.best == {(0, 1), (1, 1)}

    def test_best_of_each_column_of_a_single_training(self):
        def score(training, method, metric, image):
            return {"sib": 0.1, "gradcam": 0.3, "control_center": 0.2}[method]

        (table,) = score_tables(gather(make_results(trainings=("ce",), score=score, curves=False)))
        assert table.best == {(1, 0), (0, 1)}  # focus: Grad-CAM; deletion, where lower is better: sib

    def test_counts(self):
        assert gather(make_results(images=6, curves=False)).counts == [
            (6, "images"), (2, "methods"), (1, "control"), (2, "metrics"), (2, "trainings")
        ]  # fmt: skip

    def test_title(self):
        assert gather(make_results(curves=False)).title == "Shapes on textures \N{MIDDLE DOT} TinyCNN"
        assert gather(make_results(dataset="own", model="", curves=False)).title == "own"
        assert gather(make_results(dataset="", model="", curves=False)).title == ""


class TestCurves:
    def test_bands_are_over_images(self):
        """An image of two seeds counts once, with its mean."""
        results = make_results(seeds=(0, 1))
        (group,) = gather(results).curves
        assert (group.curve, list(group.methods)) == ("deletion", ["sib", "gradcam", "control_center"])
        expected = bootstrap_band(np.array([1 - group.x * (0.5 + image / 100) for image in range(8)]))
        for found, known in zip(group.methods["sib"]["ce"], expected, strict=True):
            assert np.allclose(found, known)

    def test_points_of_each_image(self):
        results = make_results(images=2, methods=("sib",), trainings=("ce",))
        results.curves.loc[results.curves["image_id"] == "tree-001", "x"] **= 2
        (group,) = gather(results).curves
        assert list(group.x) == sorted({*np.linspace(0, 1, 5), *np.linspace(0, 1, 5) ** 2})
        straight = 1 - group.x * 0.5
        bent = np.interp(group.x, np.linspace(0, 1, 5) ** 2, 1 - np.linspace(0, 1, 5) * 0.51)
        assert np.allclose(group.methods["sib"]["ce"].mean, (straight + bent) / 2)

    def test_too_many_points_become_a_grid(self):
        x = np.linspace(0, 1, 500)
        results = make_results(images=1, methods=("sib",), trainings=("",))
        points = results.curves.iloc[:1].drop(columns=["x", "y"]).merge(pd.DataFrame({"x": x, "y": x}), how="cross")
        (group,) = gather(Results(results.rows, points)).curves
        assert len(group.x) == MOST_POINTS
        assert np.allclose(group.methods["sib"][""].mean, group.x)

    def test_a_scope_has_its_own_kinds(self):
        results = make_results(splits=("a", "b"), methods=("sib",))
        results.curves.loc[results.curves["split"] == "b", "curve"] = "lerf"
        assert [(g.scope, g.curve) for g in gather(results).curves] == [("a", "deletion"), ("b", "lerf")]

    def test_deletion_and_insertion_come_first(self):
        results = make_results()
        parts = [results.curves.assign(curve=c) for c in ("lerf", "insertion", "deletion")]
        groups = gather(Results(results.rows, pd.concat(parts))).curves
        assert [g.curve for g in groups] == ["deletion", "insertion", "lerf"]


class TestHistories:
    LINES = ({"epoch": 1, "total": 2.0, "seconds": 3.0}, {"epoch": 2, "total": 1.0, "seconds": 3.0})

    def test_are_found_in_the_log(self):
        log = {"sib": {"history": list(self.LINES)}, "start": {"epoch": 3}, "layers": ["x"]}
        content = gather(make_results(info={"training_log": log}, curves=False))
        assert content.histories == {"sib": list(self.LINES)}
        assert content.quantities == ["total"]
        assert gather(make_results(info={"training_log": "none"}, curves=False)).histories == {}

    def test_trainings_are_in_the_order_of_the_rows(self):
        """So each has the color that it has everywhere."""
        histories = {name: list(self.LINES) for name in ("start", "sib", "ce")}
        assert list(gather(make_results(curves=False), histories=histories).histories) == ["ce", "sib", "start"]


class TestCards:
    def test_known_data(self):
        (card,) = data_cards(make_results(info={"evaluation": [{"image_size": 64}]}, curves=False))
        facts = dict(card.facts)
        assert card.title == "Shapes on textures"
        assert facts["image size"] == ["64 px"]
        assert facts["split test"] == ["8 images, 4 classes, objects cover 0.250 of the image"]

    def test_own_data(self):
        results = make_results(dataset="mine", splits=("",), curves=False)
        rows = results.rows.assign(group=results.rows["label"] // 2, area=np.nan)
        (card,) = data_cards(Results(rows, results.curves))
        assert card.title == "mine"
        assert dict(card.facts) == {"key": ["mine"], "images": ["8 images, 4 classes, 2 groups"]}

    def test_models(self):
        results = make_results(info={"weights": "w.pth"}, hit=lambda t, i: t == "sib", curves=False)
        (card,) = model_cards(results)
        facts = dict(card.facts)
        assert card.title == "TinyCNN"
        assert facts["starting weights"] == ["w.pth"]
        accuracy = "accuracy 0.000 [0.000, 0.000], mean confidence 0.900"
        assert facts["training ce"] == ["cross-entropy alone", accuracy]

    def test_own_model(self):
        results = make_results(model="", trainings=("",), splits=("a", "b"), curves=False)
        (card,) = model_cards(results)
        assert card.title == "Model"
        lines = dict(card.facts)["classifier"]
        assert [line.split(" 1.000")[0] for line in lines] == ["accuracy on a", "accuracy on b"]

    def test_versions_are_found_anywhere(self):
        info = {"versions": {"a": 1}, "x": [{"versions": {"b": "2"}}, {"versions": {"a": "3"}}], "others": {"c": 1}}
        assert find_versions(info) == {"a": "3", "b": "2"}
        assert find_versions({"versions": "1"}) == {}


class TestPanels:
    def test_curves(self):
        content = gather(make_results())
        ((group,),) = curve_panels(content, PLENTY).values()
        assert (group.title, group.left_out) == ("Deletion", 0)
        assert [p.title for p in group.panels] == ["VJP-IB (R M)", "Grad-CAM", "control: center"]
        area = np.mean([1 - (0.5 + i / 100) / 2 for i in range(8)])
        words, _, areas = group.panels[1].alt.partition(": ce ")
        assert words == "Deletion curves of Grad-CAM; areas under the means"
        assert [float(a) for a in areas.split(", sib ")] == pytest.approx([area] * 2, abs=6e-4)
        texts = [t.text for t in svg(group.panels[1]).iter(f"{SVG}text")]
        assert "share of pixels removed, most relevant first" in texts

    def test_undefined_curves_have_no_area(self):
        results = make_results(methods=("sib",))
        results.curves.loc[results.curves["training"] == "ce", "y"] = np.nan
        ((group,),) = curve_panels(gather(results), PLENTY).values()
        assert group.panels[0].alt.partition("means: ")[2].startswith("sib 0.")

    def test_colors_follow_the_page(self):
        ((group,),) = curve_panels(gather(make_results(methods=("sib",))), PLENTY).values()
        text = ET.tostring(svg(group.panels[0]), encoding="unicode")
        assert "prefers-color-scheme:dark" in text
        assert "var(--ink)" in text
        assert "<metadata" not in text

    def test_bars(self):
        results = make_results(methods=("classifier",), metrics=("original", "bg_gap", "fgsm_0.5"), curves=False)
        backgrounds, gap, attacked = bar_panels(gather(results).classifier[0])
        assert backgrounds.alt.startswith("ce: As it is 0.")
        assert "]; sib: As it is 0." in backgrounds.alt
        assert all("Always the commonest answer 0." in panel.alt for panel in (backgrounds, attacked))
        assert "Background gap" in gap.alt
        assert "fgsm_0.5" in attacked.alt

    def test_training(self):
        lines = [{"epoch": 1, "cross_entropy": 2.0, "own": 1.0}, {"epoch": 2, "cross_entropy": 1.5}]
        histories = {"sib": lines, "ce": [{"epoch": 1, "cross_entropy": 1.0}]}
        content = gather(make_results(curves=False), histories=histories)
        first, second = training_panels(content)
        assert first.alt == "cross entropy by epoch; at the end: ce 1.000, sib 1.500"
        assert first.title == "cross entropy"
        assert second.alt == "own by epoch; at the end: sib 1.000"

    def test_names_are_text(self):
        """In matplotlib's own notation, $ and _ would start formulas, and a name could break the SVG."""
        lines = [{"epoch": 1, HOSTILE: 1.0}]
        (panel,) = training_panels(gather(make_results(curves=False), histories={HOSTILE: lines}))
        assert len(list(svg(panel).iter(f"{SVG}script"))) == 0
        assert any("alert" in (t.text or "") for t in svg(panel).iter(f"{SVG}text"))
