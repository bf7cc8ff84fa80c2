"""What a metric is: its line in the METRICS table."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sibx.metrics.explained import Explained

RANDOM_MAP = "that of the random map"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """One line of the METRICS table; it stands beside the metric's function.

    Attributes:
        name: key in the table, and the name of the function.
        title: name for people.
        formula: what it computes, in one line: of the heatmap a, the mask s, the probability p of the class explained.
        score: Explained -> (B,) float64, NaN where undefined.
        higher_is_better: direction; None = not stated, as of a plain function: rankings and claims have to be told.
        bounds: smallest and largest value.
        chance: what a flat or random map gets, in words.
        needs_masks: whether it is undefined without masks.
        needs_model: whether it runs the model.
        needs_module: whether the model has to be a ``torch.nn.Module``, since its parameters change.
        reference: where it comes from.

    Example:
        A metric of your own; ``evaluate``, studies and the command line (``module:name``) take it.

        >>> largest = MetricSpec(
        ...     name="largest",
        ...     title="Largest value",
        ...     score=lambda e: e.heatmaps.flatten(1).amax(1).double(),  # e: Explained
        ...     higher_is_better=False,
        ... )
        >>> data, model = build_dataset("synthetic", image_size=32, size=4), build_model("tiny_cnn", 8)
        >>> results = evaluate(model, data, methods=["saliency"], metrics=[largest], progress=False)
        >>> results.rows["metric"].tolist()
        ['largest', 'largest', 'largest', 'largest']
    """

    name: str
    title: str
    formula: str = ""
    score: Callable[[Explained], Tensor]
    higher_is_better: bool | None
    bounds: tuple[float, float] = (float("-inf"), float("inf"))
    chance: str = ""
    needs_masks: bool = False
    needs_model: bool = False
    needs_module: bool = False
    reference: str = ""
