"""evaluate(): every method, every metric, every image."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sibx._outputs import Output
from sibx._progress import bar_over
from sibx.attribution import Explainers, Methods, resolve_methods
from sibx.attribution.chosen import asks_all
from sibx.datasets.base import MaskedDataset, check_dataset
from sibx.datasets.batches import load_batches
from sibx.evaluation.class_match import match_classes
from sibx.evaluation.fitted import fit
from sibx.evaluation.fitting_images import fitted_methods
from sibx.evaluation.label_rates import NOTED, label_rates
from sibx.evaluation.request import Request, Target, read_metrics, target_for
from sibx.evaluation.results import Results
from sibx.evaluation.scoring import score_batch
from sibx.evaluation.storage import Storage, open_storage
from sibx.metrics import AnyMetric
from sibx.models import Align, eval_mode
from sibx.models.class_map import ClassMap
from sibx.runs.normalized import warn_of_normalization
from sibx.runs.place import pick_device, placed
from sibx.runs.ranks import rank, world_size


def evaluate(
    model: Callable[[Tensor], Tensor],
    dataset: MaskedDataset,
    *,
    methods: Methods,
    metrics: AnyMetric | Sequence[AnyMetric],
    target: Target | None = None,
    class_map: ClassMap | None = None,
    output: Output = "auto",
    layer: nn.Module | str | None = None,
    align: Align | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    seed: int = 0,
    labels: Mapping[str, str] | None = None,
    out_dir: str | Path | None = None,
    resume: bool = False,
    notes: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Results:
    """Explain every image with every method and score every explanation with every metric.

    A module runs in eval mode, and is left in the mode and on the device it was in. The gradient CAMs among the methods
    share their passes. Scores do not depend on the batch size, up to the rounding of the model's own arithmetic.

    In a ``torch.distributed`` process group (``torchrun``), all ranks call this with the same arguments but ``device``.
    The batches are those of one process and every rank takes its share of them, so the results are the same, and every
    rank returns all of them.

    Args:
        model: images (B, C, H, W) -> logits (B, K): a module, or any function; then only methods that need no module.
        dataset: images with object masks; with several labels per image every class present has a row, with its mask,
            and ``Results.rates`` are those of all photographs and labels.
        methods: methods that explain: keys of METHODS, or your own in any form that ``sibx.attribution.to_method``
            takes (a MethodSpec, a function ``(model, images, targets (B,)) -> heatmaps (B, 1, H, W)``, a Captum
            attribution or its class, ``module:name``); or a mapping from names of your own to these; or ``"all"``: all
            of METHODS that apply to the model, see ``Results.skipped`` for the others. Those that have to be fitted
            (``iba``) see up to 64 images of the data set first.
        metrics: metrics that score, or one of them: keys of METRICS, or your own in any form that
            ``sibx.metrics.to_metric`` takes (a MetricSpec, a function ``(heatmaps, masks) -> (B,)``, ``module:name``).
        target: the class explained: the ``predicted`` one or the ``label``; None = ``predicted``, and for several
            labels per image the ``label`` of the row, which alone is possible there.
        class_map: for a model with other classes than the data, such as one of ImageNet: class of the data -> output or
            several outputs of the model, each by name or index; or ``"names"``: those of the same names; or
            ``"wordnet"``: ImageNet's, for classes that are WordNet ids. The probability of a class is then the sum of
            those of its outputs, and all other outputs together are one more class (of ``sigmoid`` and ``raw`` the
            largest of its outputs counts). Samples of classes that the map does not name are left out, with a warning,
            and ``label`` counts the classes of the map. Without a map a model with another number of classes has no
            accuracy (``predicted`` is -1), and its predicted class is explained.
        output: what the logits are: ``softmax``: K classes that exclude each other; ``sigmoid``: K independent labels,
            or for K = 1 the classes 0 and 1; ``raw``: scores without a probability, of which curves are taken as they
            are, and for which nothing is right or wrong (``predicted`` is -1); ``auto`` = ``sigmoid`` for K = 1 and for
            several labels per image, else ``softmax``. A row of one of several labels is right if its probability is
            above 1/2, so that what is right of all rows is the recall, and is called so.
        layer: layer that CAM methods look at, its name or the module; None = ``find_cam_layer``.
        align: where CAMs draw the units of the layer: ``receptive_field``: where they look; ``half_pixel``: in equal
            cells of the image; None = as the methods are built, for those of METHODS where they look.
        batch_size: images per forward pass.
        workers: number of processes that read the images ahead; 0 = this process reads them. Results are the same.
        device: where to compute; None = where the model is, for a function the CPU.
        seed: seed of everything random.
        labels: values of the ``model`` and ``training`` columns; by default they are empty.
        out_dir: a folder for the results (that all ranks share), written batch by batch; the memory needed does not
            depend on the number of images then. In the end it holds what ``Results.save`` writes.
        resume: continue what an interrupted call left in ``out_dir``, from the start where there is nothing. On a CPU
            the tables are, byte for byte, those of a call that was never interrupted. A part that cannot be read is
            computed again, with a warning.
        notes: further entries of ``info`` and ``run.json``.
        progress: whether to show a progress bar on stderr, where that is a terminal.

    Returns:
        Results with one row per image, method and metric, in this order. A score is NaN where it is undefined. With
        ``out_dir`` the tables are read from there when they are first asked for.

    Raises:
        ValueError: unknown or repeated names, methods that do not apply to the model (all of them are named), an empty
            data set, a metric that needs masks for a data set that is known to have none, a method or metric that needs
            a module for a model that is none, a model whose output is not (B, K), a method of your own that returns no
            maps, a metric that does not return B scores, results of an earlier call in ``out_dir`` without ``resume``,
            those of other arguments with it (the error says which), an ``out_dir`` in which another run writes, or
            arguments that differ between ranks.
    """
    check_dataset(dataset, "dataset")
    warn_of_normalization(model, dataset)
    target = target_for(dataset, target)
    matched = match_classes(model, dataset, class_map, output)
    model, dataset = matched.model, matched.dataset
    request = Request(
        model=model,
        dataset=dataset,
        class_counts=matched.counts,
        class_map=matched.class_map,
        methods=fitted_methods(resolve_methods(methods, model), dataset),
        metrics=read_metrics(metrics),
        target=target,
        output=matched.output,
        layer=layer,
        align=align,
        batch_size=batch_size,
        workers=workers,
        device=pick_device(model, device),
        seed=seed,
        columns={"dataset": dataset.name, "split": dataset.split, "model": "", "training": "", **(labels or {})},
    )
    start = time.perf_counter()
    with placed(model, request.device), eval_mode(model):
        request = fit(request, asks_all(methods))
        with open_storage(out_dir, resume, len(request.batches()), request.identify) as storage:
            _fill(storage, request, progress and rank() == 0)
            about = {**request.columns, "seed": seed}
            of_labels = label_rates(matched, about, batch_size=batch_size, workers=workers, device=request.device)
            noted = {"seconds": round(time.perf_counter() - start, 1)} | ({NOTED: of_labels} if of_labels else {})
            return storage.finish(request.describe() | noted | dict(notes or {}))


def _fill(storage: Storage, request: Request, progress: bool) -> None:
    """Compute this rank's share of the batches that are missing."""
    own = storage.pending()[rank() :: world_size()]
    batches = request.batches()
    loader = load_batches(request.dataset, [list(batches[n]) for n in own], request.workers)
    explainers = Explainers(request.model, request.methods, request.layer, request.output, request.align)
    bar = bar_over(loader, f"evaluate {request.dataset.split}", shown=progress)
    for number, batch in zip(own, bar, strict=True):
        storage.add(number, *score_batch(request, explainers, batch.to(request.device)))
