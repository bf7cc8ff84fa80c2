"""``sibx evaluate``: scores of a model's explanations on images with masks, in one process or under torchrun."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from sibx._checks import check_range, require
from sibx.attribution import resolve_methods
from sibx.cli.loading import (
    Classifier,
    check_classes,
    load_classifier,
    load_data,
    process_group,
    read_map,
    say_how_normalized,
)
from sibx.cli.rate_lines import masked_words, rate_lines
from sibx.datasets import MaskedDataset
from sibx.evaluation import Results, choose_thresholds, evaluate
from sibx.evaluation.class_match import match_classes
from sibx.evaluation.request import target_for
from sibx.metrics import MetricSpec, chosen_iou, to_metric
from sibx.report import class_by_class, make_gallery, metric_table, save_gallery, to_markdown, wrong_ones
from sibx.runs.ranks import rank

SHARE_OF_WRONG = 3  # for so many images of a gallery, one more that the model gets wrong


def run(args: Namespace) -> int:
    """Evaluate; the first process prints a line per method."""
    resolve_methods(args.methods)  # before the model and the data are loaded
    metrics = [to_metric(name, argument="metrics") for name in args.metrics]
    check_range("gallery", args.gallery, 0)
    with process_group(args.device) as device:
        classifier = load_classifier(args)
        data = load_data(args, args.split, *classifier.images(args.image_size))
        target = target_for(data, args.target)
        if args.class_map is None:
            check_classes(classifier, data, args.num_classes if target == "label" else None)
        say_how_normalized(data)
        training = args.training or classifier.notes.get("training", "")
        if args.thresholds_from is not None:
            metrics.append(_at_chosen(args.thresholds_from, data, classifier.name, training))
        results = evaluate(
            classifier.model,
            data,
            methods=args.methods,
            metrics=metrics,
            target=target,
            class_map=read_map(args.class_map),
            output=classifier.output(args.output),
            layer=args.layer,
            align=args.align,
            batch_size=args.batch_size,
            workers=args.workers,
            device=device,
            seed=args.seed,
            labels={"model": classifier.name, "training": training},
            out_dir=args.out,
            resume=args.resume,
            notes={"weights": args.checkpoint or args.weights, "image_size": data[0].image.shape[-1]},
        )
        if rank() == 0:
            if args.gallery:
                _keep_pictures(args, classifier, data, results, device)
            print(_summary(results, [m.name for m in metrics], data.classes))
            count = sum(len(cell) for _, cell in results.cells())
            words = f"{count} scores of {len(data)} images{masked_words(results)}"
            print(f"{Path(args.out) / 'results.csv.gz'}: {words}")
    return 0


def _at_chosen(folder: str, data: MaskedDataset, model: str, training: str) -> MetricSpec:
    """Return the IoU at thresholds that were chosen on other images, for the same model."""
    validation = Results.open(folder)
    scopes = validation.distinct("dataset", "split")
    seen = (scopes == [data.name, data.split]).all(axis=1).any()
    rule = "hold results of other images than those that are scored"
    require(not seen, "thresholds_from", rule, f"{folder} of {data.name}, {data.split}")
    return chosen_iou(choose_thresholds(validation.where(model=model, training=training)))


def _keep_pictures(
    args: Namespace, classifier: Classifier, data: MaskedDataset, results: Results, device: torch.device
) -> None:
    """Keep the maps of the images that every model's gallery shows, and of some that this one gets wrong."""
    output = classifier.output(args.output)
    matched = match_classes(classifier.model, data, read_map(args.class_map), output)
    shown = class_by_class(matched.dataset, args.gallery)
    wrong = wrong_ones(results.hits().rows, args.gallery // SHARE_OF_WRONG)
    (training,) = results.distinct("training")["training"]
    items = make_gallery(
        {training: matched.model},
        matched.dataset,
        methods=args.methods,
        images=sorted({*shown, *wrong}),
        model=classifier.name,
        target=target_for(data, args.target),
        output=matched.output,
        layer=args.layer,
        align=args.align,
        batch_size=args.batch_size,
        device=device,
    )
    save_gallery(items, args.out)


def _summary(results: Results, metrics: list[str], classes: Sequence[str]) -> str:
    """Return how the classifier does, and a table with a line per method and a column per metric, as text."""
    summary = results.summary()
    table = pd.concat([metric_table(summary, metric, columns="metric") for metric in metrics], axis=1)
    left_out = "".join(f"\nleft out: {_line(*skipped)}" for skipped in results.skipped.to_numpy().tolist())
    shown = f"{rate_lines(results, classes)}\n{to_markdown(table, 'method')}"
    return f"{shown}\n(95 % intervals over images){left_out}"


def _line(method: str, metric: str, reason: str) -> str:
    return f"{method}, {metric}: {reason}" if metric else f"{method}: {reason}"
