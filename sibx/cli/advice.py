"""``sibx recommend``: which method, at which layer, to trust for a model on one's own images."""

from argparse import Namespace
from pathlib import Path

from sibx.attribution import resolve_methods
from sibx.cli.loading import check_classes, load_classifier, load_data, read_map, say_how_normalized
from sibx.evaluation import recommend
from sibx.metrics import to_metric
from sibx.report import critical_difference
from sibx.report.names import method_title
from sibx.runs.place import named_device

PICTURE_FILE, SCORES = "ranks.svg", "scores"


def run(args: Namespace) -> int:
    """Score, choose, check and write; print the answer."""
    resolve_methods(args.methods)  # before the model and the data are loaded
    metrics = None if args.metrics is None else [to_metric(name, argument="metrics") for name in args.metrics]
    classifier = load_classifier(args)
    data = load_data(args, args.split, *classifier.images(args.image_size))
    if args.class_map is None:
        check_classes(classifier, data, None)
    say_how_normalized(data)
    found = recommend(
        classifier.model,
        data,
        methods=args.methods,
        metrics=metrics,
        layers=int(args.layers[0]) if args.layers[0].isdecimal() and len(args.layers) == 1 else args.layers,
        budget=args.budget,
        class_map=read_map(args.class_map),
        output=classifier.output(args.output),
        batch_size=args.batch_size,
        workers=args.workers,
        device=named_device(args.device),
        seed=args.seed,
        labels={"model": classifier.name, "training": args.training or classifier.notes.get("training", "")},
        out_dir=Path(args.out) / SCORES,
        resume=args.resume,
    )
    found.save(args.out)
    titles = {name: _title(*found.candidates[name]) for name in found.ranking.mean_ranks}
    critical_difference(found.ranking, titles).savefig(Path(args.out) / PICTURE_FILE)
    print(found)
    print(Path(args.out) / PICTURE_FILE)
    return 0


def _title(method: str, layer: str) -> str:
    return f"{method_title(method)} @ {layer}" if layer else method_title(method)
