"""Results on disk say what their tables say, and need the memory of a cell."""

import csv
import dataclasses
import gzip
import pickle
import re
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from sibx import Results
from sibx.evaluation import bootstrap_band, bootstrap_mean, columns, shelf, statistics, worst_group
from sibx.evaluation.columns import CELL, COLUMNS, CURVE_COLUMNS
from sibx.report.claims import make_claims
from sibx.report.curve_bands import curve_groups
from tests.helpers.tables import assert_read_back

METHODS, METRICS = ("gradcam", "abs", "control_random"), ("foreground_focus", "iou", "mine")
TABLES = ("results.csv.gz", "curves.csv.gz")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So small that cells are cut, and nothing stays in memory."""
    monkeypatch.setattr(columns, "BLOCK", 37)
    monkeypatch.setattr(shelf, "MEMORY", 1)


def scored(seed, trainings=("ce", "sib"), methods=METHODS, images=9):
    """Scores of images in an order of their own; some are undefined, some are missing, photographs have two rows."""
    rng = np.random.default_rng(seed)
    keys = ["training", "place", "method", "metric"]
    product = pd.MultiIndex.from_product([trainings, rng.permutation(images), methods, METRICS], names=keys)
    rows = product.to_frame(index=False).sample(frac=0.95, random_state=seed).sort_index(ignore_index=True)
    place = rows.pop("place")
    names = {"image_id": "image " + place.astype(str), "photo": "photo " + (place // 4 * 2 + place % 2).astype(str)}
    rows = rows.assign(dataset="pets", split="test", model="tiny", seed=seed, **names)
    rows = rows.assign(label=place % 2, target=place % 2, predicted=place % 3 % 2, group=place % 2, area=place / images)
    rows["confidence"] = np.where(place == 3, np.nan, 0.5 + place / 99)
    rows["value"] = np.where(rng.random(len(rows)) < 0.1, np.nan, rng.random(len(rows)))
    points = rows[rows["metric"] == "mine"].loc[lambda t: t.index.repeat(4)]
    x = np.tile([0, 0.4, 0.7, 1], len(points) // 4)
    curves = points.assign(curve="deletion", x=x, y=rng.random(len(points)))
    return Results(rows[list(COLUMNS)], curves[list(CURVE_COLUMNS)].reset_index(drop=True), {"seed": seed})


@pytest.fixture
def folders(tmp_path):
    return [scored(seed).save(tmp_path / str(seed)) for seed in (0, 1)]


def in_memory(folder):
    opened = Results.open(folder)
    return Results(opened.rows, opened.curves, opened.info)


def statements(results):
    """Everything that results say, as tables."""
    yield from (results.summary(), results.summary(["training", "label", "metric"]), results.accuracy())
    yield from (results.hits().rows, results.rates(), results.metric_correlation(), worst_group(results, ["label"]))
    yield from (results.difference("sib", "ce"), results.over_seeds("sib", "ce"))
    yield from (results.with_size().summary([*CELL, "size"]), results.distinct("label", "metric"))
    for picked in (results.where(seed=0, training="ce"), results.where(label=1, method="abs")):
        yield from (picked.rows, picked.curves)
    one = results.where(seed=0, training="ce", label=1)
    yield one.ranking("iou").table()
    claims = make_claims(results, directions={"mine": True})
    yield pd.DataFrame([(repr(claim),) for claim in claims])
    groups = curve_groups(results, dict.fromkeys({claim.scope for claim in claims}, "all"))
    yield pd.DataFrame([(repr(group),) for group in groups])


def test_all_is_said_without_a_table(folders):
    joined, tables = (Results.concat(map(read, folders)) for read in (Results.open, in_memory))
    for found, expected in zip(statements(joined), statements(tables), strict=True):
        assert len(expected) > 0
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    mixed = Results.concat([Results.open(folders[0]), in_memory(folders[1])])
    pd.testing.assert_frame_equal(mixed.rows, tables.rows)
    pd.testing.assert_frame_equal(joined.rows, tables.rows)
    pd.testing.assert_frame_equal(joined.curves, tables.curves)


def test_a_cell_holds_the_rows_of_the_table(folders):
    opened, original = Results.open(folders[0]), scored(0)
    cells = dict(opened.cells(["training", "metric"], method="abs"))
    assert list(cells) == [(t, m) for t in ("ce", "sib") for m in METRICS]
    of_method = original.rows[original.rows["method"] == "abs"]
    for (training, metric), cell in cells.items():
        asked = (of_method["training"] == training) & (of_method["metric"] == metric)
        assert_read_back(cell, of_method[asked])
    with pytest.raises(ValueError, match="`by` must be one of"):
        opened.cells(["what"])
    with pytest.raises(ValueError, match="`values` must be one of"):
        opened.cells(what=1)


def test_loaded_results_outlive_their_folder(folders, tmp_path):
    kept = {name: (folders[0] / name).read_bytes() for name in TABLES}
    loaded = Results.load(folders[0])
    for name in TABLES:
        (folders[0] / name).unlink()
    copies = [loaded, pickle.loads(pickle.dumps(loaded)), dataclasses.replace(loaded, info={"other": 1})]
    for number, results in enumerate(copies):
        folder = results.save(tmp_path / f"copy {number}")
        assert {name: (folder / name).read_bytes() for name in TABLES} == kept
    assert copies[2].info == {"other": 1}


def test_what_is_done_to_the_table_counts(folders):
    opened = Results.open(folders[0])
    opened.rows["value"] = 1.0
    assert (opened.summary()["mean"] == 1).all()


def test_notes_that_cannot_be_read_are_named(folders):
    (folders[0] / "run.json").write_text("")
    with pytest.raises(ValueError, match=r"run\.json' cannot be read"):
        Results.open(folders[0])


def test_columns_of_ones_own(tmp_path):
    original = scored(0)
    rows = original.rows.assign(age=lambda t: np.where(t.index > 60, 1.5, 2), breed="pug", old=lambda t: t["label"] > 0)
    opened = Results.open(Results(rows, original.curves).save(tmp_path))
    assert_read_back(opened.rows.assign(breed=lambda t: t["breed"].astype(str)), rows)
    expected = Results(opened.rows, opened.curves).summary(["breed", "old", "metric"])
    pd.testing.assert_frame_equal(Results.open(tmp_path).summary(["breed", "old", "metric"]), expected)
    both = Results.concat([Results.open(tmp_path), original])
    assert both.rows["breed"].isna().sum() == len(rows)


def test_nothing_at_all(tmp_path):
    empty = Results(pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(columns=list(CURVE_COLUMNS)))
    opened = Results.open(empty.save(tmp_path / "empty"))
    assert [len(t) for t in (opened.summary(), opened.hits().rows, opened.distinct("training"))] == [0, 0, 0]
    joined = Results.concat([opened, Results.open(scored(0).save(tmp_path / "full"))])
    assert len(joined.rows) == len(scored(0).rows)


def peak(folder, methods):
    """The highest number of bytes while all cells of 200 images and so many methods are read."""
    scored(0, methods=[f"method {i}" for i in range(methods)], images=200).save(folder)
    tracemalloc.start()
    assert len({key for key, _ in Results.open(folder).cells()}) == methods * len(METRICS) * 2
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest


def test_memory_does_not_depend_on_the_number_of_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "BLOCK", 2**10)
    peak(tmp_path / "first", 1)  # what is made once
    few, many = peak(tmp_path / "few", 2), peak(tmp_path / "many", 10)
    assert many < 1.5 * few


def test_a_bootstrap_is_drawn_in_parts(monkeypatch):
    values, photos = np.random.default_rng(0).random((50, 3)), np.arange(50) // 2
    whole = bootstrap_mean(values[:, 0], photos=photos), bootstrap_band(values, photos=photos)
    monkeypatch.setattr(statistics, "DRAWN", 77)
    parts = bootstrap_mean(values[:, 0], photos=photos), bootstrap_band(values, photos=photos)
    assert parts[0] == whole[0]
    np.testing.assert_allclose(parts[1].low, whole[1].low, rtol=1e-12)
    np.testing.assert_allclose(parts[1].high, whole[1].high, rtol=1e-12)


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "x\r=1", "'=1", "''-x", '=HYPERLINK("x","y")')
ODD = ("01", "1", "1.0", "True", "NA", "", "inf", "a,b", 'q"q', "two\nlines", "Icon\r", "日本", "'", "'q'", *FORMULAS)


def test_names_are_texts_whatever_they_look_like(tmp_path):
    rows = scored(0, images=len(ODD)).rows
    original = Results(rows.assign(image_id=[ODD[int(name.split()[1])] for name in rows["image_id"]]), scored(0).curves)
    opened = Results.open(original.save(tmp_path))
    assert opened.rows["image_id"].tolist() == original.rows["image_id"].tolist()
    assert list(opened.distinct("image_id")["image_id"]) == list(dict.fromkeys(original.rows["image_id"]))
    # Of categories and of texts the order of images is the same, on which draws of the bootstrap depend.
    said = [results.difference("sib", "ce") for results in (opened, in_memory(tmp_path), original)]
    for other in said[:2]:
        pd.testing.assert_frame_equal(other, said[2], check_exact=True)
    assert said[2]["method"].is_monotonic_increasing


def test_a_spreadsheet_runs_nothing(tmp_path):
    """Texts that look like formulas are marked by a quote on disk, and come back as they were, your columns too."""
    hostile = dict(zip(range(len(FORMULAS)), FORMULAS, strict=True))
    rows = scored(0, images=len(FORMULAS)).rows
    names = rows["image_id"].map(lambda name: hostile[int(name.split()[1])])
    changed = rows.assign(image_id=names, photo=names, model="=cmd|' /C calc'!A0", note=names)
    curves = scored(0, images=len(FORMULAS)).curves.assign(training="@x")
    original = Results(changed, curves)
    for results in (original, Results.open(original.save(tmp_path / "a"))):  # written from texts, and from categories
        folder = results.save(tmp_path / "b")
        for name in TABLES:
            with gzip.open(folder / name, "rt", encoding="utf-8", newline="") as file:
                cells = [cell for line in csv.reader(file, lineterminator="\n") for cell in line]
            numbers = re.compile(r"-?[\d.]+(e[-+]\d+)?")
            assert not [c for c in cells if c.startswith(tuple("=+-@\t\r")) and not numbers.fullmatch(c)]
            assert "'=cmd|' /C calc'!A0" in cells or name == TABLES[1]
        assert_read_back(Results.open(folder).rows, original.rows)
        assert_read_back(Results.open(folder).curves, original.curves)


def test_the_order_of_a_comparison_is_not_that_of_the_parts(tmp_path):
    parts = [scored(0, methods=("m", "z")), scored(1, methods=("a",))]
    opened = [Results.open(part.save(tmp_path / str(n))) for n, part in enumerate(parts)]
    found, expected = (Results.concat(of).over_seeds("sib", "ce") for of in (opened, parts))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


@pytest.mark.parametrize("read", [Results.open, in_memory])
def test_the_same_scores_twice_are_named(folders, read):
    twice = Results.concat([read(folders[0])] * 2)
    one = twice.where(seed=0, training="ce")
    for ask in (lambda: twice.difference("sib", "ce"), twice.metric_correlation, lambda: one.ranking("iou")):
        with pytest.raises(ValueError, match=r"`rows` must hold every score of an image once, but got .*image_id"):
            ask()


def test_an_empty_number_far_down_is_no_text(tmp_path):
    rows = scored(0).rows.astype({"group": float, "label": object})
    rows.loc[len(rows) - 3 :, "group"] = np.nan
    rows.loc[len(rows) - 3 :, "label"] = "other"
    original = Results(rows, scored(0).curves)
    opened = Results.open(original.save(tmp_path))
    pd.testing.assert_frame_equal(worst_group(opened), worst_group(original), check_exact=True)
    assert opened.rows["label"].astype(str).tolist() == rows["label"].astype(str).tolist()


@pytest.mark.parametrize("nothing", [None, np.nan])
def test_a_training_without_a_name_counts(nothing, tmp_path):
    rows = scored(0).rows.assign(training=lambda t: t["training"].where(t["training"] == "sib", nothing))
    original = Results(rows, scored(0).curves.assign(model=nothing))
    opened = Results.open(original.save(tmp_path))
    for results in (original, opened):
        assert list(results.distinct("training")["training"]) == ["", "sib"]
        assert list(results.curves["model"].unique()) == [""]
    pd.testing.assert_frame_equal(opened.difference("sib", ""), original.difference("sib", ""), check_exact=True)
    assert len(opened.summary()) == len(original.summary()) == len(scored(0).summary())
