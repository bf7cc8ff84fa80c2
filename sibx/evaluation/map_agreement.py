"""Do several trainings of one recipe explain the same image alike? With untrained networks as the control."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import combinations

import torch
from torch import Tensor, nn

from sibx._checks import check_seed, require
from sibx._outputs import Output
from sibx.attribution import Methods
from sibx.datasets.base import MaskedDataset
from sibx.evaluation.request import Target
from sibx.evaluation.results import Results
from sibx.evaluation.runner import evaluate
from sibx.metrics import Explained, MetricSpec, spearman
from sibx.metrics.frames import orders_pixels
from sibx.metrics.sanity.copies import rebuildable
from sibx.models import Align, eval_mode, redraw, unwrap
from sibx.runs.place import pick_device, placed

BETWEEN, CONTROL, BEYOND = "between_trainings", "with_untrained", "beyond_untrained"


def evaluate_agreement(
    models: Sequence[nn.Module],
    dataset: MaskedDataset,
    *,
    methods: Methods,
    target: Target = "label",
    output: Output = "auto",
    layer: str | None = None,
    align: Align | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    seed: int = 0,
    labels: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Results:
    """Explain every image in several trainings of one recipe and say how alike the maps are, beside a control.

    Maps of two trainings may agree because both have learned the same, or because the method draws the image's edges
    whatever the network. So each training is also compared with a copy of itself whose parameters are all drawn again:
    what its maps share with those is no agreement about the task.

    Args:
        models: two or more networks of one architecture, such as the seeds of a study (``sibx.load_model``).
        dataset: images with masks, which are not looked at.
        methods: methods that explain, see ``evaluate``; those that explain one model only are left out, with a warning.
        target: the class explained: the ``label`` (default), or the class that the first network has ``predicted``; the
            same for all networks.
        output: what the logits are, see ``evaluate``.
        layer: layer that CAM methods look at, by its name; None = ``find_cam_layer`` of the first network.
        align: where CAMs draw the units of the layer, see ``evaluate``.
        batch_size: images per forward pass.
        workers: number of processes that read the images ahead.
        device: where to compute; None = where the first network is.
        seed: seed of everything random, such as the untrained networks.
        labels: values of the ``model`` and ``training`` columns; by default they are empty.
        progress: whether to show a progress bar on stderr, where that is a terminal.

    Returns:
        Results with three metrics: ``between_trainings`` in [-1, 1], the mean of Spearman's rank correlation of the
        maps over all pairs of networks; ``with_untrained`` in [-1, 1], its mean over each network with its untrained
        copy; ``beyond_untrained`` in [-2, 2], the first minus the second. NaN where a map of a network is zero
        everywhere or not finite. Images are the sample: intervals say what other images would give, for these
        trainings. ``predicted`` and ``confidence`` are those of the first network.

    Raises:
        ValueError: fewer than two networks, networks whose parameters differ in name or shape, or what ``evaluate``
            refuses.

    Source: Fel et al., arXiv 2009.04521 (do trainings on other data agree?), with seeds in the place of folds;
    untrained networks as in Adebayo et al., arXiv 1810.03292.

    Example:
        >>> data = build_dataset("synthetic", image_size=32, size=4)
        >>> models = [build_model("tiny_cnn", 8) for _ in range(3)]
        >>> results = evaluate_agreement(models, data, methods=["saliency", "control_center"], progress=False)
        >>> results.where(method="control_center", metric="between_trainings").rows["value"].round(6).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    _check_models(models)
    check_seed("seed", seed)
    where = pick_device(models[0], device)
    fresh = [_untrained(model, seed + i) for i, model in enumerate(models)]
    with _ready([*models[1:], *fresh], where):
        return evaluate(
            models[0],
            dataset,
            methods=methods,
            metrics=_metrics(models[1:], fresh),
            target=target,
            output=output,
            layer=layer,
            align=align,
            batch_size=batch_size,
            workers=workers,
            device=where,
            seed=seed,
            labels=labels,
            progress=progress,
        )


def _metrics(others: Sequence[nn.Module], fresh: Sequence[nn.Module]) -> list[MetricSpec]:
    def between(e: Explained) -> Tensor:
        maps = e.once(trained)
        return _mean(maps, combinations(maps, 2))

    def control(e: Explained) -> Tensor:
        maps = e.once(trained)
        return _mean(maps, zip(maps, _explained(e, fresh), strict=True))

    def trained(e: Explained) -> list[Tensor]:
        return [e.heatmaps, *_explained(e, others)]

    def beyond(e: Explained) -> Tensor:
        return e.once(between) - e.once(control)

    forms = {
        BETWEEN: (between, "Agreement of trainings", "mean rank correlation of the maps of two trainings", True),
        CONTROL: (control, "Agreement with an untrained network", "the same with untrained copies", None),
        BEYOND: (beyond, "Agreement beyond untrained networks", f"{BETWEEN} - {CONTROL}", True),
    }
    return [
        MetricSpec(
            name=name,
            title=title,
            formula=formula,
            score=partial(Explained.once, compute=score),
            higher_is_better=higher,
            bounds=(-2.0, 2.0) if name == BEYOND else (-1.0, 1.0),
            chance=f"that of {CONTROL}" if name == BETWEEN else "0",
            needs_model=True,
            needs_module=True,
            reference="Fel 2020, arXiv 2009.04521",
        )
        for name, (score, title, formula, higher) in forms.items()
    ]


def _explained(e: Explained, models: Sequence[nn.Module]) -> list[Tensor]:
    _, explain_with = rebuildable(e)
    return [explain_with(model)(e.images, e.targets).to(e.heatmaps.device) for model in models]


def _mean(maps: Sequence[Tensor], pairs: Iterable[tuple[Tensor, ...]]) -> Tensor:
    """Return the mean correlation of pairs, (B,); NaN where one of the maps (B, 1, H, W) says nothing."""
    silent = ~torch.stack([orders_pixels(m) for m in maps]).all(0)
    return torch.stack([spearman(a, b) for a, b in pairs]).mean(0).masked_fill(silent, torch.nan)


def _untrained(model: nn.Module, seed: int) -> nn.Module:
    drawn = copy.deepcopy(model)
    redraw(drawn, [name for name, module in unwrap(drawn).named_modules() if [*module.parameters(recurse=False)]], seed)
    return drawn


@contextmanager
def _ready(models: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(placed(model, device))
            stack.enter_context(eval_mode(model))
        yield


def _check_models(models: Sequence[nn.Module]) -> None:
    good = isinstance(models, Sequence) and len(models) > 1 and all(isinstance(m, nn.Module) for m in models)
    require(good, "models", "be two or more torch.nn.Modules", models)
    shapes = [{name: tuple(p.shape) for name, p in unwrap(m).named_parameters()} for m in models]
    same = all(shape == shapes[0] for shape in shapes)
    require(same, "models", "have parameters of the same names and shapes", [type(unwrap(m)).__name__ for m in models])
