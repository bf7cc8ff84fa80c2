"""Which layer is found in networks of all kinds, and is Grad-CAM there what plain autograd says?

Every network has random weights and its own image size. ``find_cam_layer`` names a layer; Grad-CAM of sibx on the
layer's own grid is compared with a few lines of autograd around a forward hook, which know nothing of sibx but the
layer's name, and of which axes are channels only what the table of layouts says. ``families.py`` lists the networks.

    python benchmarks/experiments/architectures.py --out benchmarks/experiments

Some ten minutes of one core; writes ``architectures.csv`` and ``architectures.md``, the page of ``docs/experiments``.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
import torch.nn.functional as F
from families import CLASSES, Network, networks, settled
from jsonargparse import auto_cli
from torch import Tensor, nn

from sibx.attribution import GradCAM
from sibx.models import find_cam_layer, receptive_field, resolve_layer, to_grid, unwrap

ALIKE = 0.9995
SHOWN = ("library", "network", "pixels", "layer", "grid", "stride", "offset", "correlation", "seconds")
COLUMNS = (*SHOWN, "units", "refused")  # why the units cannot be measured; why there is no layer
LAST = ("swin", "nest", "sequencer", "mambaout")  # networks of timm whose last map has its channels last


def build(network: Network) -> tuple[nn.Module, Tensor]:
    """Return a network and two images (2, 3, H, W) of noise."""
    torch.manual_seed(0)
    model, images = network.build(), torch.randn(2, 3, network.side, network.side)
    return settled(model, images), images


def grad_cams(network: Network, model: nn.Module, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return Grad-CAM (B, h, w) of sibx and of plain autograd, for a class for which it varies in every image."""
    channels_last = network.library == "timm" and network.name.startswith(LAST)
    for target in range(CLASSES):
        plain = plain_gradcam(model, layer, images.clone(), target, channels_last)
        if bool((plain.flatten(1).std(1) > 0).all()):
            break
    return GradCAM(model, upsample=False).attribute(images, target)[:, 0], plain


def plain_gradcam(model: nn.Module, name: str, images: Tensor, target: int, channels_last: bool) -> Tensor:
    """Return Grad-CAM (B, h, w) by a hook and autograd."""
    module, _, function = name.partition(":")
    seen: list[Tensor] = []

    def see(_: nn.Module, __: object, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handle = unwrap(model).get_submodule(module).register_forward_hook(see)
    with _seen_behind(function, seen) if function else nullcontext():
        score = model(images.requires_grad_())[:, target].sum()
    handle.remove()
    activations, gradients = seen[-1], torch.autograd.grad(score, seen[-1])[0]
    if channels_last:
        activations, gradients = (t.permute(0, 3, 1, 2) for t in (activations, gradients))
    a, g = (to_grid(t, (images.shape[2], images.shape[3])) for t in (activations, gradients))
    return (a * g.mean((2, 3), keepdim=True)).sum(1).relu().detach()


@contextmanager
def _seen_behind(function: str, seen: list[Tensor]) -> Iterator[None]:
    """Within the block, what the function makes of the tensor seen last is seen, too."""
    plain = getattr(F, function)

    def watched(x: Tensor, *_: Any, **__: Any) -> Tensor:
        result: Tensor = plain(x)
        if seen and x is seen[-1]:
            seen.append(result)
        return result

    with patch.object(F, function, watched):
        yield


def measure(network: Network) -> dict[str, Any]:
    """Return one line of the table."""
    line: dict[str, Any] = {"library": network.library, "network": network.name, "pixels": network.side}
    try:
        model, images = build(network)
        start = time.perf_counter()
        layer = find_cam_layer(model, images)
    except Exception as error:  # a ValueError is a clear refusal, anything else is not
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return line | {"refused": f"{kind}{error}"}
    line |= {"layer": layer, "seconds": round(time.perf_counter() - start, 2)}
    ours, plain = grad_cams(network, model, layer, images)
    pairs = torch.stack([ours.flatten(1), plain.flatten(1)], 1).double()
    line |= {
        "grid": f"{ours.shape[1]} x {ours.shape[2]}",
        "correlation": min(float(torch.corrcoef(pair)[0, 1]) for pair in pairs),
    }
    try:
        field = receptive_field(model, resolve_layer(model, layer), images)
        return line | {"stride": f"{field.stride[0]:g}", "offset": f"{field.offset[0]:g}"}
    except ValueError as error:
        return line | {"units": str(error)}


def main(out: Path, only: str = "") -> None:
    """Write the tables.

    Args:
        out: folder for ``architectures.csv`` and ``architectures.md``.
        only: part of the names of the networks to measure; all by default.
    """
    torch.set_num_threads(1)
    lines = []
    for network in networks():
        if only in f"{network.library}/{network.name}":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the half-pixel fallback: the table has a column for it
                lines.append(measure(network))
            print(lines[-1], flush=True)
            write(pd.DataFrame(lines), out)


def write(table: pd.DataFrame, out: Path) -> None:
    """Write what is measured so far."""
    table = table.reindex(columns=list(COLUMNS))
    table.to_csv(out / "architectures.csv", index=False, float_format="%.6f")
    found = table[table["layer"].notna()]
    alike = int((found["correlation"] > ALIKE).sum())
    head = f"""# The layer that is found

{len(table)} networks with random weights, at their own image size: a layer is found in {len(found)}, and Grad-CAM
there is that of plain autograd (correlation above {ALIKE}) in {alike}. Stride and offset say where the units look, in
pixels; where there is none, CAMs are drawn in equal cells. Seconds: one look-up, on one thread of a machine that did
other work, too. `architectures.py` made this table, of the networks in `families.py`.

"""
    (out / "architectures.md").write_text(head + _markdown(table) + "\n", encoding="utf-8")


def _markdown(table: pd.DataFrame) -> str:
    layers = zip(table["layer"], table["refused"], strict=True)
    rows = table.assign(
        layer=[f"`{layer}`" if isinstance(layer, str) else f"refused: {reason}" for layer, reason in layers],
        correlation=table["correlation"].map("{:.3f}".format, na_action="ignore"),
    )
    cells = rows[list(SHOWN)].astype(object).fillna("").astype(str).to_numpy().tolist()
    return "\n".join("| " + " | ".join(line) + " |" for line in [SHOWN, ["---"] * len(SHOWN), *cells])


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
