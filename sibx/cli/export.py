"""``sibx export``: a trained classifier as a plain state dict, as a program of torch.export or as ONNX."""

from argparse import Namespace
from pathlib import Path

import torch

from sibx._checks import require
from sibx.attribution import export_explained
from sibx.models import about, export_model, load_model

ENDINGS = {"state_dict": ".state_dict.pt", "torch_export": ".pt2", "onnx": ".onnx"}
USUAL = 1e-4  # difference of an output, in units of the scores; rounding of another order of sums


def run(args: Namespace) -> int:
    """Write the file, and print how far its outputs are from the network's."""
    source = Path(args.checkpoint)
    out = Path(args.out) if args.out else source.with_name(source.stem + ENDINGS[args.to])
    require(args.force or not out.exists(), "out", "be a new file (--force overwrites)", str(out))
    require(not out.is_dir() and out.resolve() != source.resolve(), "out", "be a file beside the checkpoint", str(out))
    network = load_model(source, args.model)
    known = about(network)
    side = args.image_size or known.image_size
    require(side is not None, "image_size", "be given for a file that does not say it", None)
    assert side is not None
    channels = len(known.normalization.mean) if known.normalization else 3
    outputs: tuple[str, ...] = ("logits",)
    if args.explained:
        require(args.to != "state_dict", "to", "be torch_export or onnx with --explained", args.to)
        example = torch.zeros(1, channels, side, side)
        network = export_explained(network, example, args.explained, output=known.output).module()
        outputs = "logits", "heatmaps"
    difference = export_model(network, out, args.to, image_size=side, channels=channels, outputs=outputs)
    maps = f" and heatmaps (B, 1, {side}, {side})" if args.explained else ""
    print(f"{out}: images (B, {channels}, {side}, {side}) -> {known.scores or len(known.classes or ())} scores{maps}")
    note = "" if difference < USUAL else ", more than rounding"
    print(f"largest difference from the network on noise: {difference:.1e}{note}")
    if known.normalization:
        print(f"normalize pixels in [0, 1] by mean {known.normalization.mean} and std {known.normalization.std}")
    return 0
