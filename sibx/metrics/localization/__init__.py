"""Localization: does the heatmap lie on the object?

Every score takes heatmaps (B, 1, H, W), at least 0, and masks (B, 1, H, W), and returns (B,) float64. Pixels in
``undefined`` (trimap boundary, void) take no part. A score is NaN where it is undefined: no object pixel or nothing
but object among the defined pixels, a heatmap that is zero everywhere there, or one that is not finite.
"""

from sibx.metrics.localization import _pointing_game, cuts, largest, mass, segmentation, thresholds
from sibx.metrics.spec import MetricSpec

LOCALIZATION: dict[str, MetricSpec] = {
    s.name: s
    for s in (
        mass.FOREGROUND_FOCUS,
        mass.FOREGROUND_LIFT,
        mass.BACKGROUND_SUPPRESSION,
        _pointing_game.POINTING_GAME,
        largest.RELEVANCE_RANK,
        largest.IOU,
        largest.TOPK_INTERSECTION,
        thresholds.BEST_IOU,
        thresholds.AVERAGE_PRECISION,
        thresholds.ROC_AUC,
        segmentation.IOU_AT_MEAN,
        segmentation.PIXEL_ACCURACY,
        segmentation.AVERAGE_PRECISION_BOTH,
        cuts.IOU_OVER_THRESHOLDS,
    )
}
