"""``sibx methods``, ``sibx metrics`` and ``sibx datasets``: the tables as aligned text."""

from argparse import Namespace
from collections.abc import Sequence


def run(args: Namespace) -> int:
    """Print one table."""
    print(aligned({"methods": _methods, "metrics": _metrics, "datasets": _datasets}[args.command]()))
    return 0


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of equally many cells as text, in columns two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _methods() -> Sequence[Sequence[str]]:
    from sibx.attribution import METHODS

    head = ("name", "title", "class", "layer", "signed", "reference")
    return [head] + [
        (s.name, s.title, "given" if s.uses_target else "-", _yes(s.needs_layer), _yes(s.signed), s.reference)
        for s in METHODS.values()
    ]


def _metrics() -> Sequence[Sequence[str]]:
    from sibx.metrics import METRICS

    head = ("name", "title", "better", "range", "masks", "model", "chance", "reference")
    return [head] + [
        (
            s.name,
            s.title,
            "higher" if s.higher_is_better else "lower",
            f"[{s.bounds[0]:g}, {s.bounds[1]:g}]",
            _yes(s.needs_masks),
            _yes(s.needs_model),
            s.chance,
            s.reference,
        )
        for s in METRICS.values()
    ]


def _datasets() -> Sequence[Sequence[str]]:
    from sibx.datasets import DATASETS

    head = ("name", "title", "pixels", "splits", "masks", "reference", "licence")
    return [head] + [
        (s.name, s.title, str(s.image_size), ", ".join(s.splits), s.masks, s.reference, s.licence)
        for s in DATASETS.values()
    ]


def _yes(flag: bool) -> str:
    return "yes" if flag else "-"
