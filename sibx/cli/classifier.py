"""``sibx reliance`` and ``sibx robustness``: accuracy with the background changed, and under attack or corruption."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sibx._checks import require
from sibx.cli.loading import check_classes, load_classifier, load_data, read_map, say_how_normalized
from sibx.cli.rate_lines import masked_words, rate_lines
from sibx.evaluation import ACCURACY, Interval, Results, evaluate_reliance, evaluate_robustness, worst_group
from sibx.evaluation.classifier_rates import MAJORITY
from sibx.report import metric_table, to_markdown
from sibx.report.unequal import are_unequal
from sibx.runs import named_device

SETTINGS = {
    "reliance": ("backgrounds",),
    "robustness": ("attacks", "epsilons", "steps", "corruptions", "severities"),
}


def run(args: Namespace) -> int:
    """Evaluate, write Results and print a line per condition."""
    out = Path(args.out)
    there = (out / "run.json").exists()
    require(
        args.resume or not there, "out", "hold no results of an earlier evaluation (--resume continues it)", args.out
    )
    device, classifier = named_device(args.device), load_classifier(args)
    data = load_data(args, args.split, *classifier.images(args.image_size))
    if args.class_map is None:
        check_classes(classifier, data, args.num_classes)
    say_how_normalized(data)
    evaluate: Any = {"reliance": evaluate_reliance, "robustness": evaluate_robustness}[args.command]
    results: Results = evaluate(
        classifier.model,
        data,
        **_given(args),
        class_map=read_map(args.class_map),
        output=classifier.output(args.output),
        batch_size=args.batch_size,
        workers=args.workers,
        device=device,
        seed=args.seed,
        labels={"model": classifier.name, "training": args.training or classifier.notes.get("training", "")},
        out_dir=out,
        resume=args.resume,
        notes={"weights": args.checkpoint or args.weights, "image_size": data[0].image.shape[-1]},
    )
    print(_summary(results, data.classes))
    count = sum(len(cell) for _, cell in results.cells())
    print(f"{out / 'results.csv.gz'}: {count} scores of {len(data)} images{masked_words(results)}")
    return 0


def _given(args: Namespace) -> dict[str, Any]:
    """Return the settings of the command that were given; epsilons are converted from gray levels."""
    given = {name: getattr(args, name) for name in SETTINGS[args.command] if getattr(args, name) is not None}
    return given | ({"epsilons": [level / 255 for level in given["epsilons"]]} if "epsilons" in given else {})


def _summary(results: Results, classes: Sequence[str]) -> str:
    """Return how the classifier does, and how it does under every condition and on the worst group, as text."""
    tables = {str(results.hits().rows["metric"].iloc[0]): results.summary()}
    if are_unequal(results.hits().rows):  # first what a classifier that always says the commonest class is bad at
        tables = {"mean over classes": results.class_means()} | tables
    columns = {
        name: metric_table(lines.assign(method=lines["metric"], metric=name), name, columns="split").iloc[:, 0]
        for name, lines in tables.items()
    }
    table = pd.DataFrame(columns)
    usual = [line["mean"] for line in results.rates().to_dict("records") if line["metric"] == MAJORITY]
    if usual and ACCURACY in columns:
        always = {"mean over classes": 1 / len(results.distinct("label")), ACCURACY: usual[0]}
        table.loc["always the commonest class"] = [f"{always[str(name)]:.3f}" for name in table]
    text = f"{rate_lines(results, classes)}\n{to_markdown(table, 'condition')}"
    worst = worst_group(results).iloc[0]
    if worst["n"]:
        found = Interval.of(worst)
        text += f"\nworst group of {worst['metric']}: {worst['group']} with {found} of {found.n} images"
    return f"{text}\n(95 % intervals over images)"
