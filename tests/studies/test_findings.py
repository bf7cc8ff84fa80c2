"""What the summary of a study says, from rows whose means are known."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from sibx.evaluation import Results, mean_over_sets, paired_gain
from sibx.evaluation.columns import CURVE_COLUMNS
from sibx.studies import Study
from sibx.studies.findings import summarize
from sibx.studies.gains_over_sets import gains_over_sets
from sibx.studies.glance import at_a_glance, scores_of_labels
from sibx.studies.job import Group, Job

STUDY = Study(
    dataset=["voc2012", "coco"],
    model="tiny_cnn",
    seed=[0, 1],
    trainings=["ce", "sib"],
    methods=["vjp", "gradcam"],
    controls=["control_center"],
    localization=["foreground_focus"],
    explained=["val"],
)
LABELS = pd.DataFrame(columns=["dataset", "model", "seed", "training", "split", "what", "value"])


@pytest.fixture
def rows():
    draw = np.random.default_rng(0)
    lines = []
    for dataset, split, seed, training, image in product(
        STUDY.datasets, ("val", "test"), (0, 1), ("ce", "sib"), "abcd"
    ):
        predicted = int(draw.random() < 0.7)
        for method in ("vjp", "gradcam", "control_center"):
            value = draw.random() + (training == "sib") * (method != "control_center")
            lines.append(
                {
                    "dataset": dataset,
                    "split": split,
                    "image_id": image,
                    "label": 1,
                    "predicted": predicted,
                    "confidence": 0.5,
                    "group": -1,
                    "area": 0.2,
                    "model": "tiny_cnn",
                    "training": training,
                    "seed": seed,
                    "method": method,
                    "target": 1,
                    "metric": "foreground_focus",
                    "value": value,
                }
            )
    return pd.DataFrame(lines)


def results_of(rows):
    return Results(rows, pd.DataFrame(columns=list(CURVE_COLUMNS)))


def text_of(means):
    return f"{np.mean(means):.3f} ± {np.std(means, ddof=1):.3f}"


def test_at_a_glance_is_made_of_means_over_images_and_methods_for_every_seed(rows):
    of_set = rows[rows["dataset"] == "coco"]
    labels = pd.DataFrame(
        [
            ("coco", "tiny_cnn", seed, training, split, "mAP", {"val": 0.5, "test": 0.9}[split] + seed / 10)
            for seed, training, split in product((0, 1), ("ce", "sib"), ("val", "test"))
        ],
        columns=list(LABELS.columns),
    )
    table = at_a_glance(results_of(of_set), STUDY, labels)
    assert list(table.index) == ["ce", "sib", "control_center"]
    assert list(table.columns) == ["Accuracy", "mAP", "Foreground focus"]
    seen = of_set[of_set["split"] == "val"]  # the others are not explained
    for training in ("ce", "sib"):
        ours = seen[seen["training"] == training]
        maps = ours[ours["method"] != "control_center"]
        focus = [maps[maps["seed"] == s]["value"].mean() for s in (0, 1)]
        right = [(ours[ours["seed"] == s]["predicted"] == 1).mean() for s in (0, 1)]
        assert table.loc[training, "Foreground focus"] == text_of(focus)
        assert table.loc[training, "Accuracy"] == text_of(right)
        assert table.loc[training, "mAP"] == text_of([0.5, 0.6])
    control = seen[seen["method"] == "control_center"]
    assert table.loc["control_center", "Foreground focus"] == text_of(
        control.groupby("seed", observed=True)["value"].mean()
    )
    assert table.loc["control_center", "Accuracy"] == ""


def test_of_one_seed_there_is_no_deviation(rows):
    table = at_a_glance(results_of(rows[(rows["dataset"] == "coco") & (rows["seed"] == 0)]), STUDY, LABELS)
    assert not table.apply(lambda column: column.str.contains("±|nan")).to_numpy().any()


def test_scores_of_labels_come_from_every_cell(rows):
    scores = {"average_precision": 0.5, "roc_auc": 0.75, "f1": 0.25}
    group = Group("coco", "tiny_cnn", 1)
    cells = {
        Job(group, "training", "sib"): Results(rows, rows, {"label_scores": {"test": scores}}),
        Job(group, "training", "ce"): Results(rows, rows, {}),
    }
    table = scores_of_labels(cells)
    assert table["training"].tolist() == ["sib"] * 3
    assert dict(zip(table["what"], table["value"], strict=True)) == {"mAP": 0.5, "ROC-AUC": 0.75, "F1": 0.25}
    assert set(table["split"]) == {"test"}


def test_gains_over_sets_are_means_of_what_every_set_gains(rows):
    table = gains_over_sets(results_of(rows), STUDY, [("sib", "ce")])
    found = []
    for dataset in STUDY.datasets:
        maps = rows[(rows["dataset"] == dataset) & (rows["split"] == "val") & (rows["method"] != "control_center")]
        keys = ["model", "split", "image_id", "label", "seed"]
        wide = maps.groupby([*keys, "training"], observed=True)["value"].mean().unstack("training")
        found.append(paired_gain(wide["sib"] - wide["ce"]))
    mean = mean_over_sets([gain.interval.mean for gain in found], [gain.error for gain in found])
    assert table.loc["sib - ce", "Foreground focus"].removesuffix(" *") == f"{mean:+.3f}"
    assert {"accuracy", "Foreground focus", "Foreground focus, Grad-CAM"} <= set(table.columns)


def test_the_summary_has_every_table(rows):
    text = summarize(results_of(rows), STUDY, LABELS)
    assert text.count("At a glance, mean ± standard deviation over 2 seeds; of maps the mean over the 2 methods") == 2
    assert "# All data sets: mean gain over them [95 % interval for other sets]" in text
    assert "| sib - ce" in text
