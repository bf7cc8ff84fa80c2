"""recommend(): which method, at which layer, a model's maps should come from on one's own images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor, nn

from sibx._checks import check_integer, require
from sibx._outputs import Output
from sibx.attribution import METHODS, Methods, MethodSpec, is_control, resolve_methods
from sibx.attribution.chosen import asks_all
from sibx.attribution.fitting import why_not
from sibx.datasets.base import MaskedDataset, check_dataset, collate, spread
from sibx.datasets.part import Part
from sibx.evaluation.fitting_images import fitted_methods
from sibx.evaluation.passes import FEWEST, Counter, plan
from sibx.evaluation.recommendation import Candidate, Recommendation, judge
from sibx.evaluation.request import read_metrics
from sibx.evaluation.results import Results
from sibx.evaluation.runner import evaluate
from sibx.evaluation.storage import holds_results
from sibx.metrics import AnyMetric
from sibx.models import eval_mode, find_cam_layers
from sibx.models.class_map import ClassMap
from sibx.runs.place import pick_device, placed
from sibx.runs.ranks import on_first_rank

WITH_MASKS, WITHOUT = ("foreground_focus", "insertion_minus_deletion"), ("insertion_minus_deletion",)
NO_LAYER = ""
LAYERS = "be a number or a list of names"


def recommend(
    model: Callable[[Tensor], Tensor],
    dataset: MaskedDataset,
    *,
    methods: Methods = "all",
    metrics: AnyMetric | Sequence[AnyMetric] | None = None,
    layers: int | Sequence[str] = 2,
    budget: int | None = None,
    class_map: ClassMap | None = None,
    output: Output = "auto",
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    seed: int = 0,
    labels: Mapping[str, str] | None = None,
    out_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Recommendation:
    """Find out which method, at which layer, explains a model best on images like these, and whether it may be trusted.

    Methods x layers and the model-free controls are scored on the images and ranked on half of them. The winner and the
    best control are then compared on the other half, which had no say in the choice: of many candidates one is always
    the best of the first half, by luck at least.

    Args:
        model: images (B, C, H, W) -> logits (B, K): a module, or any function; then only methods that need no module.
        dataset: validation images, better not those that the model was trained on; with masks if there are any.
        methods: methods in any form that ``evaluate`` takes; "all" = those of METHODS that apply to the model. The
            controls of METHODS always take part.
        metrics: what "best" means, metrics with a direction, or one of them; all count equally. None = foreground focus
            where the data may have masks, and insertion minus deletion.
        layers: layers for methods that need one: their names, or how many of ``find_cam_layers``.
        budget: number of passes of an image through the model, back as well as there, that all of it may take; None =
            any. Where it does not suffice, fewer images are used, and then the methods that take the most passes are
            left out. Passes are counted on one image beforehand, and that counts too.
        class_map: for a model with other classes than the data: class of the data -> output or outputs of the model, or
            ``"names"`` or ``"wordnet"``.
        output: what the logits are: ``softmax``, ``sigmoid`` or ``raw``; ``auto`` = ``sigmoid`` for a single logit and
            for several labels per image, else ``softmax``.
        batch_size: images per forward pass.
        workers: number of processes that read the images ahead.
        device: where to compute; None = where the model is, for a function the CPU.
        seed: seed of everything random.
        labels: values of the ``model`` and ``training`` columns of the results.
        out_dir: a folder for the scores, written batch by batch: those at a layer into ``@<layer>`` in it, the others
            into ``input``.
        resume: continue what an interrupted call left in ``out_dir``.
        progress: whether to show progress bars on stderr, where that is a terminal.

    Returns:
        Recommendation.

    Raises:
        ValueError: what ``evaluate`` refuses; a metric without a direction; fewer than four images; a budget that does
            not suffice for the controls; methods of which none applies or fits into the budget; two candidates of one
            name; or an ``out_dir`` with the scores of other layers.

    Example:
        >>> from sibx import build_dataset, build_model
        >>> from sibx.evaluation import recommend
        >>> data, model = build_dataset("synthetic", split="val", image_size=32, size=8), build_model("tiny_cnn", 8)
        >>> found = recommend(model, data, methods=["gradcam", "saliency"], metrics=["iou"], progress=False)
        >>> sorted(found.table["candidate"].unique())[-3:]
        ['gradcam@features', 'gradcam@features.2', 'saliency']
        >>> found.verdict in ("shown", "partly", "none")
        True
    """
    check_dataset(dataset, "dataset")
    require(len(dataset) >= 4, "dataset", "hold at least four images, two to choose on and two to check", len(dataset))
    asked = WITHOUT if dataset.no_masks else WITH_MASKS
    scores = read_metrics(asked if metrics is None else metrics)
    open_ = [m.name for m in scores if m.higher_is_better is None]
    require(not open_, "metrics", "state whether higher is better", open_)
    if budget is not None:
        check_integer("budget", budget, 1)
    options: dict[str, Any] = {"metrics": scores, "class_map": class_map, "output": output, "seed": seed}
    options |= {"device": device, "labels": labels, "batch_size": batch_size, "workers": workers}
    here, image = pick_device(model, device), collate([dataset[0]]).images
    with placed(model, here), eval_mode(model):
        specs, left_out = _methods(methods, model, dataset, image.to(here), output)
        names = _layers(layers, model, image.to(here), specs)
    candidates = {Candidate(s.name, name): s for s in specs for name in (names if s.needs_layer else [NO_LAYER])}
    called = [c.name for c in candidates]
    require(len(set(called)) == len(called), "methods", "have names that differ from method@layer of others", called)
    counter = Counter()
    with counter.watching(model) as watched:
        kept, count = _fit(watched, dataset, candidates, options, counter, budget, left_out)
        chosen = Part(dataset, spread(len(dataset), count))
        folders = {layer: _folder(layer) for layer in dict.fromkeys(c.layer for c in kept)}
        on_first_rank(lambda: _check_place(out_dir, list(folders.values()), resume))
        parts = []
        for layer, folder in folders.items():
            of_layer = [candidates[c] for c in kept if c.layer == layer]
            within = None if out_dir is None else Path(out_dir) / folder
            place: dict[str, Any] = {"layer": layer or None, "out_dir": within, "resume": resume, "progress": progress}
            parts.append(_renamed(evaluate(watched, chosen, methods=of_layer, **place, **options), layer, specs))
    results = Results.concat(parts, {"budget": budget, "passes": counter.count, "seed": seed})
    directions = {m.name: bool(m.higher_is_better) for m in scores}
    return judge(results, directions, kept, left_out, len(dataset), budget)


def _methods(
    methods: Methods, model: Any, dataset: MaskedDataset, image: Tensor, output: Output
) -> tuple[list[MethodSpec], list[tuple[str, str]]]:
    """Return the methods with the controls, and which do not apply to the model, with the reasons."""
    asked = fitted_methods(resolve_methods(methods, model), dataset)
    names = {s.name for s in asked}
    require(not all(map(is_control, names)), "methods", "hold one at least that is no control", sorted(names))
    asked += [METHODS[name] for name in METHODS if is_control(name) and name not in names]
    if not isinstance(model, nn.Module):
        reasons = {s.name: "it needs a torch.nn.Module" for s in asked if s.needs_layer or s.needs_module}
    else:
        reasons = why_not(asked, model, image, None, output, wholly=asks_all(methods))
    left = [s for s in asked if s.name not in reasons]
    require(any(not is_control(s.name) for s in left), "methods", "apply to the model", reasons)
    return left, list(reasons.items())


def _layers(layers: int | Sequence[str], model: Any, image: Tensor, specs: Sequence[MethodSpec]) -> list[str]:
    if not isinstance(layers, int):
        listed = isinstance(layers, Sequence) and not isinstance(layers, str) and len(layers) > 0
        require(listed and all(isinstance(n, str) and n for n in layers), "layers", LAYERS, layers)
        return list(dict.fromkeys(layers))
    require(not isinstance(layers, bool), "layers", LAYERS, layers)
    check_integer("layers", layers, 1)
    return find_cam_layers(model, layers, image) if any(s.needs_layer for s in specs) else []


def _folder(layer: str) -> str:
    """Return the folder for the scores at a layer; a layer that is called as the folder of none has another one."""
    return f"@{quote(layer, safe='')}" if layer else "input"


def _check_place(out_dir: str | Path | None, folders: Sequence[str], resume: bool) -> None:
    """Raise ValueError for a folder that holds results which are not to be continued, or of other layers."""
    if out_dir is None or not Path(out_dir).is_dir():
        return
    there = sorted(path.name for path in Path(out_dir).iterdir() if holds_results(path))
    rule = "hold no results of an earlier evaluation (resume=True continues it)"
    require(resume or not there, "out_dir", rule, str(out_dir))
    others = [name for name in there if name not in folders]
    require(not others, "out_dir", f"hold results of these layers only ({', '.join(folders)})", others)


def _fit(
    model: Callable[[Tensor], Tensor],
    dataset: MaskedDataset,
    candidates: Mapping[Candidate, MethodSpec],
    options: Mapping[str, Any],
    counter: Counter,
    budget: int | None,
    left_out: list[tuple[str, str]],
) -> tuple[list[Candidate], int]:
    """Return the candidates that fit into the budget, and on how many images; what does not fit is left out."""
    if budget is None:
        return list(candidates), len(dataset)
    one, costs = Part(dataset, [0]), dict[Candidate, int]()
    limit = budget / min(FEWEST, len(dataset))
    for candidate, spec in candidates.items():

        def run(candidate: Candidate = candidate, spec: MethodSpec = spec) -> None:
            evaluate(model, one, methods=[spec], layer=candidate.layer or None, progress=False, **options)

        cost = counter.of(run, limit)
        if cost is None:
            left_out.append((candidate.name, f"more than {limit:.0f} passes per image"))
        else:
            costs[candidate] = cost
    controls = [c for c in candidates if is_control(c.method)]
    least = min(FEWEST, len(dataset))
    enough = all(c in costs for c in controls) and sum(costs[c] for c in controls) * least + counter.count <= budget
    require(enough, "budget", f"suffice for all controls on {least} images", budget)
    kept, count = plan(costs, lambda c: c in controls, len(dataset), budget - counter.count)
    left_out += [(c.name, f"{costs[c]} passes per image") for c in costs if c not in kept]
    require(len(kept) > len(controls), "budget", f"suffice for a method beside the controls on {least} images", budget)
    return kept, count


def _renamed(results: Results, layer: str, specs: Sequence[MethodSpec]) -> Results:
    """Return results whose methods are called as candidates are."""
    if not layer:
        return results
    rows, curves = (
        table.assign(method=[Candidate(str(m), layer).name for m in table["method"]])
        for table in (results.rows, results.curves)
    )
    return replace(results, rows=rows, curves=curves)
