"""How one family of studies trains; the numbers come from validation data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sibx.train import TrainConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of the trainings, and how many images are explained.

    Attributes:
        start: cross-entropy training of the checkpoint that the trainings start from.
        tune: fine-tuning from there, the same for all trainings but for the objective.
        layers: where S-IB takes its VJPs, layer name -> weight; None = the last feature map.
        test_images: images per test split that are explained.
        perturbed_images: how many of those also get deletion and insertion.
    """

    start: TrainConfig
    tune: TrainConfig
    layers: Mapping[str, float] | None = None
    test_images: int = 64
    perturbed_images: int = 24


# With so few steps in an epoch the norms of gradients would take a tenth of the time.
_SMALL = TrainConfig(batch_norm="train", log_gradient_norms=False)
_PHOTOGRAPHS = TrainConfig(
    epochs=15,  # the pull of S-IB is bounded, so that it takes steps: docs/experiments/further_ahead.md
    batch_size=16,
    learning_rate=3e-4,
    head_learning_rate=3e-3,
    augmentation="flip_crop",
    batch_norm="eval",
    center_head=True,  # fine-tuned heads are not, and Grad-CAM shows it: docs/experiments/centered.md
    log_gradient_norms=False,
)
RECIPES = {
    "from-scratch": Recipe(
        start=replace(_SMALL, epochs=12, learning_rate=5e-3), tune=replace(_SMALL, epochs=3, learning_rate=1e-3)
    ),
    # From ImageNet weights: the starting checkpoint has to fit its labels, or its own masks mean little.
    "photographs": Recipe(
        start=replace(_PHOTOGRAPHS, epochs=10), tune=_PHOTOGRAPHS, test_images=40, perturbed_images=12
    ),
}
# For models with weights: the last feature map, and the end of the stage before, on the next finer grid.
TWO_STAGES = {"stage:-2": 1.0, "stage:-1": 1.0}
