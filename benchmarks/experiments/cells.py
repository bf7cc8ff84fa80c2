"""The means of every cell of a study, as CSV: what is committed where all rows of all images would be too much.

    python benchmarks/experiments/cells.py results/carries-over benchmarks/experiments/carries_over.csv

Several folders, of the seeds of one study say, make one table.

A cell is a data set, model, seed, training and split. Its lines: the accuracy, the balanced accuracy (mean of the
classes' accuracies) and that of the worst group where there are groups, the means over labels of average precision,
ROC-AUC and F1 where the study has them, then the mean of every metric of every method. A study that is not finished
gives what is done.
"""

import argparse
from pathlib import Path

import pandas as pd

from sibx.evaluation import CLASSIFIER, Results

CELL = ["dataset", "model", "seed", "training", "split"]
ORDER = [*CELL, "method", "metric"]


def of_cell(results: Results) -> pd.DataFrame:
    """Return the lines of one training: the means of its rows, and the scores of labels that its run wrote down."""
    table = means(results)
    lines = [
        line | {"method": CLASSIFIER, "metric": name, "mean": value}
        for line in table[[*CELL]].drop_duplicates().to_dict("records")
        for name, value in results.info.get("label_scores", {}).get(line["split"], {}).items()
    ]
    return pd.concat([table, pd.DataFrame(lines, columns=list(table.columns))]) if lines else table


def means(results: Results) -> pd.DataFrame:
    """Return one line per cell, method and metric."""
    hits = results.hits().rows
    accuracy = hits.groupby(CELL, observed=True)["value"].agg(["mean", "count"])
    of_classes = (
        hits.groupby([*CELL, "label"], observed=True)["value"]
        .mean()
        .groupby(CELL, observed=True)
        .agg(["mean", "count"])
    )
    in_groups = hits[hits["group"] >= 0].groupby([*CELL, "group"], observed=True)["value"].mean()
    worst = in_groups.groupby(CELL, observed=True).agg(["min", "count"]).rename(columns={"min": "mean"})
    of_maps = results.rows[results.rows["method"] != CLASSIFIER]
    maps = of_maps.groupby([*CELL, "method", "metric"], observed=True)["value"].agg(["mean", "count"])
    classified = [
        frame.assign(method=CLASSIFIER, metric=name)
        for name, frame in (("accuracy", accuracy), ("balanced_accuracy", of_classes), ("worst_group", worst))
    ]
    table = pd.concat([*(frame.reset_index() for frame in classified), maps.reset_index()])
    return table[[*ORDER, "mean", "count"]]


def main() -> None:
    """Read the folders of studies, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+", help="folders of studies")
    parser.add_argument("out", type=Path, help="file to write")
    arguments = parser.parse_args()
    done = sorted(path.parent for study in arguments.studies for path in study.glob("cells/*/*/*/run.json"))
    table = pd.concat([of_cell(Results.load(folder)) for folder in done]).sort_values(ORDER, kind="stable")
    table["count"] = table["count"].astype("Int64")  # of scores of labels there is none
    table.to_csv(arguments.out, index=False, float_format="%.5f")


if __name__ == "__main__":
    main()
