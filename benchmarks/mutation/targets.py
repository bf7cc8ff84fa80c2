"""Which tests have to notice a mistake in which file: those that are about it, and no others."""

METRICS, OBJECTIVES = "tests/metrics", "tests/objectives"
TABLE = f"{METRICS}/test_metrics.py"
LOCALIZATION = (f"{METRICS}/localization/test_localization.py", TABLE)
CURVES = (f"{METRICS}/curves/test_curves.py", "tests/fuzz/test_scores.py::test_curves", TABLE)
FAITHFULNESS = (f"{METRICS}/faithfulness/test_faithfulness.py", TABLE)
ATTRIBUTION = "tests/attribution/test_attribution.py"
VJP = tuple(f"{ATTRIBUTION}::{name}" for name in ("TestSIB", "TestSIBAtALayer", "TestDifferentiable"))
OBJECTIVE = tuple(f"{OBJECTIVES}/test_{name}.py" for name in ("train", "objective", "outputs"))

TARGETS: dict[str, tuple[str, ...]] = {
    "metrics/localization/_overlap.py": LOCALIZATION,
    "metrics/localization/_pointing_game.py": LOCALIZATION,
    "metrics/localization/largest.py": LOCALIZATION,
    "metrics/localization/mass.py": LOCALIZATION,
    "metrics/localization/thresholds.py": LOCALIZATION,
    "metrics/curves/auc.py": CURVES,
    "metrics/curves/derived.py": CURVES,
    "metrics/curves/_perturbations.py": CURVES,
    "metrics/curves/adaptive.py": (f"{METRICS}/curves/test_adaptive.py", TABLE),
    "metrics/frames.py": CURVES,
    "metrics/probability.py": (*CURVES, "tests/evaluation/test_outputs.py"),
    "metrics/similarity.py": (f"{METRICS}/test_similarity.py", *FAITHFULNESS),
    "metrics/complexity.py": (f"{METRICS}/test_complexity.py", f"{METRICS}/sanity/test_randomization.py", TABLE),
    "metrics/faithfulness/_confidence.py": (f"{METRICS}/faithfulness/test_confidence.py", TABLE),
    "metrics/faithfulness/_adcc.py": (f"{METRICS}/faithfulness/test_confidence.py", TABLE),
    "metrics/faithfulness/_infidelity.py": FAITHFULNESS,
    "metrics/faithfulness/_irof.py": FAITHFULNESS,
    "metrics/faithfulness/_max_sensitivity.py": FAITHFULNESS,
    "metrics/faithfulness/_sensitivity_n.py": FAITHFULNESS,
    "metrics/faithfulness/_road.py": (f"{METRICS}/faithfulness/test_road.py", TABLE),
    "metrics/faithfulness/imputation.py": (f"{METRICS}/faithfulness/test_imputation.py",),
    "attribution/mask_rules.py": (f"{ATTRIBUTION}::TestSoftMask", "tests/fuzz/test_maps.py::test_hard_masks"),
    "attribution/_soft_quantile.py": (f"{ATTRIBUTION}::TestSoftMask",),
    "attribution/_vjp.py": VJP,
    "attribution/cotangents.py": VJP,
    "_hsic.py": (f"{OBJECTIVES}/test_hsic.py",),
    "objectives/foreground.py": (f"{OBJECTIVES}/test_hsic.py", *OBJECTIVE),
    "objectives/background.py": OBJECTIVE,
    "objectives/terms.py": OBJECTIVE,
    "objectives/sib.py": OBJECTIVE,
    "evaluation/statistics.py": ("tests/evaluation/test_statistics.py", "tests/evaluation/test_comparison.py"),
    "evaluation/significance.py": ("tests/evaluation/test_statistics.py",),
    "models/_receptive_field.py": ("tests/models/test_receptive_field.py",),
}
