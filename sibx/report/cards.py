"""Cards of the data and of the models behind results: what they are, where they come from, what was run."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from sibx.attribution import METHODS
from sibx.datasets import DATASETS
from sibx.evaluation import Interval, Results
from sibx.evaluation.columns import ACCURACY, IMAGE, RECALL
from sibx.metrics import METRICS
from sibx.models import MODELS
from sibx.report.names import interval
from sibx.train import TRAININGS


class Card(NamedTuple):
    """A name and what is known about it."""

    title: str
    facts: list[tuple[str, list[str]]]


def data_cards(results: Results) -> list[Card]:
    """Describe every data set of the rows: its source, and the images of each split that were scored."""
    cards = []
    for key, rows in results.hits().rows.groupby("dataset", sort=False, observed=True):
        name, spec = str(key), DATASETS.get(str(key))
        facts = [("key", [name])]
        if spec:
            facts += [("source", [spec.reference]), ("masks", [spec.masks]), ("licence", [spec.licence])]
        facts += _found(results.info, "image_size", "image size", "{} px")
        for split, part in rows.groupby("split", sort=False, observed=True):
            facts.append((f"split {split!s}" if split else "images", [_describe_images(part)]))
        cards.append(Card(spec.title if spec else name, facts))
    return cards


def model_cards(results: Results) -> list[Card]:
    """Describe every model of the rows: its source, its trainings, and how it classifies the images scored."""
    cards, hits = [], results.hits()
    for name in map(str, hits.rows["model"].unique()):
        of_model, spec = hits.where(model=name), MODELS.get(name)
        facts = [("key", [name])] if name else []
        if spec:
            facts.append(("source", [spec.reference]))
        facts += _found(results.info, "weights", "starting weights", "{}")
        several = of_model.rows["split"].nunique() > 1
        for training in map(str, of_model.rows["training"].unique()):
            about = [TRAININGS[training].title] if training in TRAININGS else []
            lines = [*about, *_describe_hits(of_model.where(training=training), several=several)]
            facts.append((f"training {training}" if training else "classifier", lines))
        cards.append(Card(spec.title if spec else name or "Model", facts))
    return cards


def source_cards(results: Results) -> list[Card]:
    """Say where the methods and the metrics of the rows come from, as far as the tables know."""
    tables: dict[str, tuple[str, Mapping[str, Any]]] = {"method": ("Methods", METHODS), "metric": ("Metrics", METRICS)}
    cards = []
    for column, (title, table) in tables.items():
        keys = [key for key in results.distinct(column)[column].astype(str) if key in table and table[key].reference]
        cards += [Card(title, [(table[key].title, [table[key].reference]) for key in keys])] if keys else []
    return cards


def find_versions(info: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions that are noted anywhere in ``run.json``; of several the last."""
    noted = [value for key, value in _walk(info) if key == "versions" and isinstance(value, Mapping)]
    return {str(package): str(version) for versions in noted for package, version in versions.items()}


def _describe_images(rows: pd.DataFrame) -> str:
    images = rows.drop_duplicates(list(IMAGE))
    photographs = images["photo"].nunique()
    words = [f"{photographs} images", f"{images['label'].nunique()} classes"]
    if photographs < len(images):
        words.insert(1, f"{len(images)} rows")
    groups = images.loc[images["group"] >= 0, "group"].nunique()
    if groups:
        words.append(f"{groups} groups")
    if "area" in images and images["area"].notna().any():
        masked = int((images["area"] > 0).sum())
        words += [f"{masked} of them with a mask"] if masked < len(images) else []
        words.append(f"objects cover {images['area'].mean():.3f} of the image")
    return ", ".join(words)


def _describe_hits(hits: Results, *, several: bool) -> Iterator[str]:
    """Accuracy, or of several labels recall, and confidence by data set and split."""
    for line in hits.summary(["dataset", "split", "metric"]).to_dict("records"):
        dataset, split = line["dataset"], line["split"]
        place = f" on {split or dataset}" if several else ""
        confidence = hits.where(dataset=dataset, split=split).rows["confidence"].mean()
        if line["n"]:
            what = "recall of labels that are there" if line["metric"] == RECALL else ACCURACY
            yield f"{what}{place} {interval(Interval.of(line))}, mean confidence {confidence:.3f}"
        else:
            yield f"mean score{place} {confidence:.3f}; scores without classes have no accuracy"


def _found(info: Mapping[str, Any], key: str, title: str, form: str) -> list[tuple[str, list[str]]]:
    """One fact of everything that is noted under a key, none where there is nothing."""
    values = dict.fromkeys(str(v) for k, v in _walk(info) if k == key and v is not None)
    return [(title, [form.format(v) for v in values])] if values else []


def _walk(info: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep."""
    if isinstance(info, Mapping):
        for key, value in info.items():
            yield str(key), value
            yield from _walk(value)
    elif isinstance(info, list | tuple):
        for value in info:
            yield from _walk(value)
