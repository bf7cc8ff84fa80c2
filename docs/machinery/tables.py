"""A page for every table of sibx: what each line of it says of itself, and what its docstring adds."""

import inspect
import re
from collections.abc import Callable, Iterable

from torch import nn

from docs.machinery.markdown import first_line, page, plain, table
from docs.machinery.sources import Bibliography
from sibx import DATASETS, METHODS, METRICS, MODELS, TRAININGS, build_method, metrics
from sibx.attribution import MASKS, MethodSpec
from sibx.datasets import DatasetSpec
from sibx.metrics import MetricSpec
from sibx.models import ModelSpec
from sibx.objectives import GUIDANCE

UNDEFINED = re.compile(r"(?:Returns: \(B,\) float64[,.] )?([^.;:]*NaN[^.]*\.)")
FAMILIES = {  # module of sibx.metrics: what it asks
    "localization": "Localization: is it on the object?",
    "curves": "Curves: what happens when pixels go?",
    "faithfulness": "Faithfulness: does the model use it?",
    "complexity": "Complexity: how much is in it?",
    "sanity": "Sanity: does it depend on the model and on the class?",
}
KINDS = {
    "gradient": "Gradients at the input",
    "cam": "Maps of a layer (CAM)",
    "attention": "Attention",
    "perturbation": "Changed images",
    "control": "Controls, which never look at the model",
    None: "Others",
}


def methods_page(sources: Bibliography) -> str:
    """Return the page of METHODS."""
    parts = [
        "# Methods",
        "Keys of `sibx.METHODS`, for `explain(model, images, key)`, `evaluate(methods=[key])` and `--methods key`. "
        "A heatmap is at least 0: the positive part of the sum over channels where the sign says for and against, the "
        "L2 norm over channels where it does not.",
    ]
    head = ("key", "method", "heatmap", "class", "source")
    for kind, title in KINDS.items():
        specs = [s for s in METHODS.values() if s.kind == kind]
        if specs:
            parts += [f"## {title}", table(head, (_method_row(s, sources) for s in specs))]
    return page(parts)


def _method_row(spec: MethodSpec, sources: Bibliography) -> tuple[str, ...]:
    sign = "positive part" if spec.signed else "L2 norm"
    target = "given" if spec.uses_target else "-"
    return f"`{spec.name}`", _what_it_is(spec), sign, target, sources.linked(spec.reference)


def _what_it_is(spec: MethodSpec) -> str:
    """Its title, and the first line of the class that it is built of; of a control, of the function that draws it."""
    built = build_method(spec.name, _small_network())
    named = built.forward_func if spec.kind == "control" else type(built)  # type: ignore[attr-defined]
    return f"**{plain(spec.title)}**, {_class_link(type(built))}. {plain(first_line(named))}"


def _class_link(built: type) -> str:
    """A link to a class of the facade; the class's own path is that of a file, which nobody imports."""
    return f"{{py:class}}`~sibx.attribution.{built.__name__}`"


def _small_network() -> nn.Module:
    """A network that every method fits."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


def metrics_page(sources: Bibliography) -> str:
    """Return the page of METRICS."""
    parts = [
        "# Metrics",
        "Keys of `sibx.METRICS`, for `evaluate(metrics=[key])` and `--metrics key`; every one is a function of "
        "`sibx.metrics` as well. a is the heatmap, at least 0; s the object mask; p the probability of the class "
        "explained. Pixels that are marked undefined (the edge of a trimap, void) take no part. A score that is "
        "undefined is NaN for that image, and every table counts such images.",
    ]
    for family, title in FAMILIES.items():
        parts += [f"## {title}", *(_metric(s, sources) for s in METRICS.values() if _family(s) == family)]
    return page(parts)


def _family(spec: MetricSpec) -> str:
    return getattr(metrics, spec.name).__module__.removeprefix("sibx.metrics.").split(".")[0]


def _metric(spec: MetricSpec, sources: Bibliography) -> str:
    function = getattr(metrics, spec.name)
    facts = {
        "Formula": plain(spec.formula),
        "Range": f"{_bounds(spec.bounds)}, {'higher' if spec.higher_is_better else 'lower'} is better",
        "Chance": plain(spec.chance),
        "Undefined": plain(undefined_case(function)),
        "Needs": ", ".join(_needs(spec)) or "the heatmap alone",
        "Source": sources.linked(plain(spec.reference)),
        "Function": f"{{py:func}}`sibx.metrics.{spec.name}`",
    }
    lines = [f":{name}: {text}" for name, text in facts.items()]
    return "\n".join([f"### `{spec.name}`", "", f"{spec.title}.", "", *lines])


def _needs(spec: MetricSpec) -> list[str]:
    wants = {"masks": spec.needs_masks, "the model": spec.needs_model, "its parameters": spec.needs_module}
    return [name for name, wanted in wants.items() if wanted]


def _bounds(bounds: tuple[float, float]) -> str:
    return f"[{bounds[0]:g}, {bounds[1]:g}]".replace("inf", "∞")


def undefined_case(function: object) -> str:
    """Return the sentence of a docstring that says where a score is NaN."""
    found = UNDEFINED.search(" ".join((inspect.getdoc(function) or "").split()))
    return found[1].strip() if found else ""


def datasets_page(sources: Bibliography) -> str:
    """Return the page of DATASETS."""
    head = ("key", "data set", "splits", "side", "masks", "source", "license")
    rows = (_dataset_row(s, sources) for s in DATASETS.values())
    text = (
        "Keys of `sibx.DATASETS`, for `build_dataset(key, root)` and `--dataset key`. Only `synthetic` is embedded; a "
        "wrong `root` is answered with the layout that is expected. Side: of the square images, in pixels, by default."
    )
    return page(["# Data sets", text, table(head, rows)])


def _dataset_row(spec: DatasetSpec, sources: Bibliography) -> tuple[str, ...]:
    source = sources.linked(spec.reference)
    return f"`{spec.name}`", spec.title, ", ".join(spec.splits), str(spec.image_size), spec.masks, source, spec.licence


def models_page(sources: Bibliography) -> str:
    """Return the page of MODELS."""
    rows = (_model_row(s, sources) for s in MODELS.values())
    text = (
        "Keys of `sibx.MODELS`, for `build_model(key, classes, weights)` and `--model key`. `timm/<name>` and "
        "`hf/<name or folder>` are taken as well. Mean and standard deviation, per channel, are those that the "
        "published weights were trained with: `MODELS[key].normalization`."
    )
    return page(["# Models", text, table(("key", "model", "source", "mean", "standard deviation"), rows)])


def _model_row(spec: ModelSpec, sources: Bibliography) -> tuple[str, ...]:
    mean, deviation = _numbers(spec.normalization.mean), _numbers(spec.normalization.std)
    return f"`{spec.name}`", spec.title, sources.linked(spec.reference), mean, deviation


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)


def trainings_page(_: Bibliography) -> str:
    """Return the page of TRAININGS."""
    rows = ((f"`{s.name}`", plain(s.title), f"`{s.control}`" if s.control else "-") for s in TRAININGS.values())
    text = (
        "Keys of `sibx.TRAININGS`, for `fine_tune_as(key, model, data)`, studies and `sibx finetune --training key`. "
        "The control of a training is the same with every image given the mask of another one: what a training gains "
        "over its control, it gains by the place of the mask."
    )
    return page(["# Trainings", text, table(("key", "what it is", "control"), rows)])


def guidance_page(sources: Bibliography) -> str:
    """Return the page of GUIDANCE."""
    rows = (
        (
            f"`{s.name}`",
            s.title,
            "yes" if s.needs_masks else "-",
            "a layer" if s.at_layer else "the image",
            sources.linked(s.reference),
        )
        for s in GUIDANCE.values()
    )
    text = (
        "Keys of `sibx.objectives.GUIDANCE`, for `GuidanceConfig(key, weight)`: losses of other papers, to compare "
        "S-IB with. Each is added to the cross-entropy."
    )
    return page(["# Guidance losses", text, table(("key", "loss", "masks", "taken at", "source"), rows)])


def mask_rules_page(_: Bibliography) -> str:
    """Return the page of MASKS."""
    rows = ((f"`{name}`", f"`{_call(rule)}`", plain(first_line(type(rule)))) for name, rule in MASKS.items())
    text = (
        "Keys of `sibx.attribution.MASKS`, for `SIBAttribution(model, mask=key)`: rules that turn evidence "
        "(B, C, H, W) into a mask (B, 1, H, W)."
    )
    return page(["# Mask rules", text, table(("key", "rule", "in one line"), rows)])


def _call(rule: object) -> str:
    """How the rule is built, with what differs from its defaults."""
    standard = type(rule)()
    changed = {name: getattr(rule, name) for name in inspect.signature(type(rule)).parameters}
    words = (f"{n}={v!r}" for n, v in changed.items() if v != getattr(standard, n))
    return f"{type(rule).__name__}({', '.join(words)})"


TABLE_PAGES: dict[str, Callable[[Bibliography], str]] = {
    "methods": methods_page,
    "metrics": metrics_page,
    "datasets": datasets_page,
    "models": models_page,
    "trainings": trainings_page,
    "guidance": guidance_page,
    "mask_rules": mask_rules_page,
}
