"""Is the attention of transformers of all kinds recorded without changing their outputs, and which methods take it?

Every network has random weights and its own image size. Its outputs while attention is recorded are compared with those
of the network alone, and every attention method of METHODS explains two images of noise. ``families.py`` lists the
networks, of which those with attention are taken.

    python benchmarks/experiments/attentive.py --out benchmarks/experiments

Some ten minutes of one core; writes ``attentive.csv`` and ``attentive.md``, the page of ``docs/experiments``.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from architectures import build
from families import CLASSES, Network, networks
from jsonargparse import auto_cli
from torch import Tensor, nn

from sibx import METHODS, build_method
from sibx.attribution import record_attention

NAMES = [name for name, spec in METHODS.items() if spec.kind == "attention"]
SHOWN = ("library", "network", "pixels", "matrices", "difference", "grid", "methods")
COLUMNS = (*SHOWN, "refused")
ALIKE = 1e-6  # of the highest score
WITH_ATTENTION = {
    "torchvision": ("swin_t", "swin_v2_t", "maxvit_t", "vit_b_32"),
    "timm": (
        *("beit_base_patch16_224", "botnet26t_256", "caformer_s18", "cait_xxs24_224", "coatnet_pico_rw_224"),
        *("convit_tiny", "crossvit_tiny_240", "davit_tiny", "deit3_small_patch16_224", "eva02_tiny_patch14_224"),
        *("deit_tiny_distilled_patch16_224", "gcvit_xxtiny", "levit_128s", "maxvit_rmlp_pico_rw_256", "mobilevit_xxs"),
        *("mvitv2_tiny", "pvt_v2_b0", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"),
        *("vit_base_patch16_siglip_224", "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"),
        *("vit_tiny_patch16_224", "xcit_nano_12_p16_224"),
    ),
    "transformers": (
        *("vit", "deit", "beit", "data2vec-vision", "dinov2", "dinov2_with_registers", "vit_msn", "ijepa", "clip"),
        *(
            "siglip",
            "metaclip_2",
            "swin",
            "swinv2",
            "donut-swin",
            "hiera",
            "pvt_v2",
            "segformer",
            "cvt",
            "levit",
            "pvt",
        ),
    ),
}


def measure(network: Network) -> dict[str, Any]:
    """Return one line of the table."""
    line: dict[str, Any] = {"library": network.library, "network": network.name, "pixels": network.side}
    model, images = build(network)
    with torch.no_grad():
        alone = model(images)
    with record_attention(model) as found:
        recorded = model(images.requires_grad_()).detach()
    line |= {"matrices": len(found), "difference": float((recorded - alone).abs().max() / alone.abs().max())}
    found.clear()
    reasons: dict[str, list[str]] = {}
    for name in NAMES:
        try:
            line["grid"] = "{} x {}".format(*grid_map(name, model, images).shape[2:])
            line["methods"] = [*line.get("methods", []), name]
        except Exception as error:  # a ValueError is a clear refusal, anything else is not
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            reasons.setdefault(f"{kind}{error}", []).append(name)
    taken = line.get("methods", [])
    line["methods"] = "all" if taken == NAMES else ", ".join(taken)
    refused = [f"{'all' if names == NAMES else ', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return line | {"refused": "; ".join(refused) or None}


def grid_map(name: str, model: nn.Module, images: Tensor) -> Tensor:
    """Return a method's map on the grid of tokens, (B, 1, h, w), for a class for which it is not zero everywhere."""
    method: Any = build_method(name, model)
    method.upsample = False
    for target in range(CLASSES):
        options = {"target": target} if METHODS[name].uses_target else {}
        found: Tensor = method.attribute(images.detach(), **options)
        if bool(found.any()):
            break
    return found


def main(out: Path, only: str = "") -> None:
    """Write the tables.

    Args:
        out: folder for ``attentive.csv`` and ``attentive.md``.
        only: part of the names of the networks to measure; all by default.
    """
    torch.set_num_threads(1)
    lines = []
    for network in networks():
        if network.name in WITH_ATTENTION[network.library] and only in f"{network.library}/{network.name}":
            lines.append(measure(network))
            print(lines[-1], flush=True)
            write(pd.DataFrame(lines), out)


def write(table: pd.DataFrame, out: Path) -> None:
    """Write what is measured so far."""
    table = table.reindex(columns=list(COLUMNS))
    table.to_csv(out / "attentive.csv", index=False, float_format="%.2e")
    alike, taken = int((table["difference"] <= ALIKE).sum()), int((table["methods"] == "all").sum())
    head = f"""# Attention of transformers of all kinds

{len(table)} networks with attention, of random weights, at their own image size. While their attention is recorded,
outputs differ by at most {ALIKE:g} of the highest score in {alike}; all attention methods explain {taken}. Matrices:
how many attention layers are seen. Grid: that of the tokens that maps are made of. `attentive.py` made this table,
of the networks in `families.py`.

"""
    (out / "attentive.md").write_text(head + _markdown(table) + "\n", encoding="utf-8")


def _markdown(table: pd.DataFrame) -> str:
    texts = zip(table["methods"], "refused by " + table["refused"], strict=True)
    rows = table.assign(
        methods=["; ".join(t for t in pair if isinstance(t, str) and t) for pair in texts],
        difference=table["difference"].map("{:.0e}".format),
    )
    cells = rows[list(SHOWN)].astype(object).fillna("").astype(str).to_numpy().tolist()
    return "\n".join("| " + " | ".join(line) + " |" for line in [SHOWN, ["---"] * len(SHOWN), *cells])


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
