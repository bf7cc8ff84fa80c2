"""``sibx methods``, ``sibx metrics``, ``sibx datasets`` and ``sibx models``: the tables as aligned text."""

from argparse import Namespace
from collections.abc import Sequence


def run(args: Namespace) -> int:
    """Print one table."""
    tables = {"methods": _methods, "metrics": _metrics, "datasets": _datasets, "models": _models}
    print(aligned(tables[args.command]()))
    return 0


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of equally many cells as text, in columns two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _methods() -> Sequence[Sequence[str]]:
    from sibx.attribution import METHODS

    head = ("name", "title", "class", "layer", "signed", "reference", "from")
    return [head] + [
        (
            s.name,
            s.title,
            "given" if s.uses_target else "-",
            _yes(s.needs_layer),
            _yes(s.signed),
            s.reference,
            METHODS.origin(s.name),
        )
        for s in METHODS.values()
    ]


def _metrics() -> Sequence[Sequence[str]]:
    from sibx.metrics import METRICS

    head = ("name", "title", "better", "range", "masks", "model", "chance", "reference", "from")
    return [head] + [
        (
            s.name,
            s.title,
            {True: "higher", False: "lower", None: "-"}[s.higher_is_better],
            f"[{s.bounds[0]:g}, {s.bounds[1]:g}]",
            _yes(s.needs_masks),
            _yes(s.needs_model),
            s.chance,
            s.reference,
            METRICS.origin(s.name),
        )
        for s in METRICS.values()
    ]


def _datasets() -> Sequence[Sequence[str]]:
    from sibx.datasets import DATASETS

    head = ("name", "title", "pixels", "splits", "masks", "reference", "licence", "from")
    return [head] + [
        (
            s.name,
            s.title,
            str(s.image_size),
            ", ".join(s.splits),
            s.masks,
            s.reference,
            s.licence,
            DATASETS.origin(s.name),
        )
        for s in DATASETS.values()
    ]


def _models() -> Sequence[Sequence[str]]:
    from sibx.models import MODELS

    head = ("name", "title", "reference", "from")
    return [head] + [(s.name, s.title, s.reference, MODELS.origin(s.name)) for s in MODELS.values()]


def _yes(flag: bool) -> str:
    return "yes" if flag else "-"
