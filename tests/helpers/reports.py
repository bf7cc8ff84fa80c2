"""Results and galleries for the tests of reports, small and with known gains."""

from itertools import product

import numpy as np
import pandas as pd

from sibx import Results
from sibx.evaluation.columns import COLUMNS, CURVE_COLUMNS
from sibx.report import GalleryItem

HOSTILE = "<script>alert('x')</script>\"'&`|_*[a](b)\\{{ 1 }}{% x %}%#$\\frac{$~^é\n-> </style> onerror=1"
GAINS = {"foreground_focus": 0.2, "deletion": -0.1}  # of sib over ce, both for the better


def score(training, method, metric, image):
    """About .5, with noise of .01 that is the image's own; sib gains, the control does not change."""
    noise = np.random.default_rng([image, len(method), len(metric)]).normal(0, 0.01)
    gain = GAINS.get(metric, 0) * (training == "sib")
    return 0.3 + 0.05 * len(metric) / 10 if method.startswith("control_") else 0.5 + gain + noise


def make_results(
    *,
    images=8,
    trainings=("ce", "sib"),
    methods=("sib", "gradcam", "control_center"),
    metrics=tuple(GAINS),
    splits=("test",),
    curves=True,
    score=score,
    hit=lambda training, image: True,
    name="tree-{:03d}",
    seeds=(0,),
    model="tiny_cnn",
    dataset="synthetic",
    info=None,
):
    """Rows and curves of every combination; images belong to four classes in turn."""
    rows, points = [], []
    for split, training, seed, image in product(splits, trainings, seeds, range(images)):
        label = image % 4
        predicted = label if hit(training, image) else label + 1
        names = {"dataset": dataset, "split": split, "image_id": name.format(image), "model": model}
        names |= {"training": training, "seed": seed}
        about = {"label": label, "predicted": predicted, "confidence": 0.9, "group": -1, "area": 0.25}
        for method in methods:
            named = names | {"method": method}
            values = {metric: score(training, method, metric, image) for metric in metrics}
            rows += [named | about | {"target": predicted, "metric": m, "value": v} for m, v in values.items()]
            x = np.linspace(0, 1, 5 if curves else 0)
            points += [named | {"curve": "deletion", "x": at, "y": 1 - at * (0.5 + image / 100)} for at in x]
    tables = pd.DataFrame(rows, columns=list(COLUMNS)), pd.DataFrame(points, columns=list(CURVE_COLUMNS))
    return Results(*tables, info or {})


def draw_gallery(
    *, images=4, trainings=("ce", "sib"), methods=("sib", "gradcam"), side=16, signed=(), name="tree-{:03d}"
):
    """Items of the first images of ``make_results``; the maps of the methods named in ``signed`` have signs."""
    items = []
    for image in range(images):
        random = np.random.default_rng(image)
        mask = np.zeros((side, side), dtype=bool)
        mask[side // 4 : side // 2, side // 4 : side // 2] = True
        maps = {m: {t: random.random((side, side)) - (m in signed) * 0.5 for t in trainings} for m in methods}
        picture = random.random((side, side, 3))
        class_name = f"class {image % 4}"
        items.append(GalleryItem("synthetic", "test", "tiny_cnn", name.format(image), class_name, picture, mask, maps))
    return items
