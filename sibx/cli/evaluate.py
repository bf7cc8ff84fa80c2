"""``sibx evaluate``: scores of a model's explanations on images with masks, in one process or under torchrun."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd

from sibx._checks import look_up
from sibx.attribution import METHODS
from sibx.cli.loading import check_classes, load_classifier, load_data, process_group
from sibx.evaluation import Results, bootstrap_mean, evaluate
from sibx.metrics import METRICS
from sibx.report import metric_table, to_markdown
from sibx.train.distributed import rank


def run(args: Namespace) -> int:
    """Evaluate; the first process prints a line per method."""
    for argument, table in (("methods", METHODS), ("metrics", METRICS)):
        for name in getattr(args, argument):
            look_up(argument, name, table)  # before the model and the data are loaded
    with process_group(args.device) as device:
        classifier = load_classifier(args)
        data = load_data(args, args.split, args.image_size or classifier.notes.get("image_size"))
        check_classes(classifier, data, args.num_classes if args.target == "label" else None)
        results = evaluate(
            classifier.model,
            data,
            methods=args.methods,
            metrics=args.metrics,
            target=args.target,
            layer=args.layer,
            batch_size=args.batch_size,
            device=device,
            seed=args.seed,
            labels={"model": classifier.name, "training": args.training or classifier.notes.get("training", "")},
            out_dir=args.out,
            resume=args.resume,
            notes={"weights": args.checkpoint or args.weights, "image_size": data[0].image.shape[-1]},
        )
        if rank() == 0:
            print(_summary(results, args.metrics))
            print(f"{Path(args.out) / 'results.csv.gz'}: {len(results.rows)} scores of {len(data)} images")
    return 0


def _summary(results: Results, metrics: list[str]) -> str:
    """Accuracy, and a table with a line per method and a column per metric."""
    summary = results.summary()
    table = pd.concat([metric_table(summary, metric, columns="metric") for metric in metrics], axis=1)
    images = results.rows.drop_duplicates("image_id")
    hits = bootstrap_mean(np.asarray(images["predicted"] == images["label"], dtype=np.float64))
    accuracy = f"accuracy {hits.mean:.3f} [{hits.low:.3f}, {hits.high:.3f}]"
    return f"{accuracy} (95 % intervals over images)\n{to_markdown(table, 'method')}"
