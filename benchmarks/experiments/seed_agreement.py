"""Do several trainings of one way explain an image alike, and more so than networks that have learned nothing?

    python benchmarks/run_all.py --config studies/baselines_embedded.yaml
    python benchmarks/experiments/seed_agreement.py results/baselines-embedded

Networks of all seeds of a study, the first 32 images of test-decorrelated, the class of the label. Writes
``docs/experiments/tables/agreement.csv``: Spearman's correlation of the maps of two trainings, mean over pairs and
images; the same of each network with itself untrained; and the difference with its bootstrap interval over images.
"""

import sys
from pathlib import Path

import pandas as pd

from sibx import build_dataset, load_model
from sibx.datasets import Part
from sibx.evaluation import Results, evaluate_agreement

IMAGES = 32
TRAININGS = ("ce", "sib", "sib-shuffled")
METHODS = ("sib", "gradcam", "saliency", "input_x_gradient", "layercam", "control_edges")
TABLE = Path(__file__).parents[2] / "docs" / "experiments" / "tables" / "agreement.csv"


def of_training(study: Path, training: str) -> Results:
    """Explain the images in the networks of all seeds of one training."""
    paths = sorted(study.glob(f"cells/synthetic-tiny_cnn/seed-*/{training}/model.pt"))
    data = Part(build_dataset("synthetic", split="test-decorrelated"), range(IMAGES))
    return evaluate_agreement(
        [load_model(path) for path in paths],
        data,
        methods=METHODS,
        align="half_pixel",
        batch_size=IMAGES,
        labels={"training": training},
    )


def table(results: Results) -> pd.DataFrame:
    """Return a line per training and method."""
    means = results.summary(["training", "method", "metric"])
    wide = means.pivot(index=["training", "method"], columns="metric")
    beyond = [wide[part, "beyond_untrained"] for part in ("mean", "low", "high")]
    columns = {
        "two trainings": wide["mean", "between_trainings"].map("{:.3f}".format),
        "with untrained": wide["mean", "with_untrained"].map("{:.3f}".format),
        "beyond": [f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" for mean, low, high in zip(*beyond, strict=True)],
    }
    order = pd.MultiIndex.from_product([TRAININGS, METHODS], names=["training", "method"])
    return pd.DataFrame(columns).reindex(order).reset_index()


if __name__ == "__main__":
    found = table(Results.concat([of_training(Path(sys.argv[1]), training) for training in TRAININGS]))
    TABLE.write_text(found.to_csv(index=False), encoding="utf-8")
    print(found.to_string(index=False))
