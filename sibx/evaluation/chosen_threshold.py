"""The threshold at which heatmaps become masks, chosen on images that nothing is measured on."""

import numpy as np

from sibx._checks import require
from sibx.evaluation.results import Results
from sibx.metrics.localization.cuts import OVER_THRESHOLDS


def choose_thresholds(validation: Results) -> dict[str, float]:
    """Return for every method the threshold with the highest mean IoU over validation images.

    Images whose IoU is undefined take no part; of equal means the lowest threshold is taken.

    Args:
        validation: results of the metric ``iou_over_thresholds`` on images that are not measured on later, of one model
            and training on one split (``Results.where`` picks them); several seeds count together.

    Returns:
        Name of a method -> threshold in .01, .02, ..., 1, of the map scaled to [0, 1] by its own minimum and maximum;
        ``sibx.metrics.chosen_iou`` makes a metric of them.

    Raises:
        ValueError: no Results, or results without the metric, of several models, trainings or splits, or of a method
            without a score.

    Example:
        >>> val, test = (build_dataset("synthetic", split=s, image_size=32, size=4) for s in ("val", "test-id"))
        >>> model, options = build_model("tiny_cnn", 8), {"methods": ["saliency"], "progress": False}
        >>> found = choose_thresholds(evaluate(model, val, metrics="iou_over_thresholds", **options))
        >>> results = evaluate(model, test, metrics=["best_iou", chosen_iou(found)], **options)
        >>> best, chosen = results.summary().set_index("metric")["mean"]
        >>> best > chosen  # which sees no mask of these images
        True
    """
    require(isinstance(validation, Results), "validation", "be Results", type(validation).__name__)
    scopes = validation.distinct("dataset", "split", "model", "training")
    rule = "be of one data set, split, model and training (Results.where picks them)"
    require(len(scopes) == 1, "validation", rule, scopes.to_numpy().tolist())
    found: dict[str, float] = {}
    for (method,), points in validation.curve_cells(["method"], curve=OVER_THRESHOLDS):
        means = points.groupby("x", sort=True, observed=True)["y"].mean()
        require(bool(means.notna().any()), "validation", f"hold a defined IoU of {method}", "none")
        found[str(method)] = float(means.index[int(np.nanargmax(means.to_numpy()))])
    require(
        bool(found),
        "validation",
        f"be of the metric {OVER_THRESHOLDS}",
        validation.distinct("metric")["metric"].tolist(),
    )
    return found
