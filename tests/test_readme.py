"""README says what the tables say."""

import re
from pathlib import Path

import pytest
import torch

from sibx import DATASETS, METHODS, METRICS, build_dataset, build_model
from sibx.datasets import InMemoryDataset

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already")
def test_methods_and_metrics_of_ones_own_run():
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "def inside(" in c)
    torch.manual_seed(0)
    data = InMemoryDataset.load(build_dataset("synthetic", split="test", image_size=32), range(2))
    names = {"torch": torch, "model": build_model("tiny_cnn", 8), "data": data}
    exec(code, names)
    rows = names["results"].rows
    methods = ["gradient", "Saliency", "NoiseTunnel", "times", "sib"]
    assert rows["method"].unique().tolist() == methods
    values = rows.pivot(index=["image_id", "method"], columns="metric", values="value")
    assert values["inside"].to_numpy() == pytest.approx(values["foreground_focus"].to_numpy(), rel=1e-5)


def methods_table():
    """The table of methods, as README has to hold it."""
    lines = ["| key | method | heatmap | class | source |", "|---|---|---|---|---|"]
    for spec in METHODS.values():
        title = spec.title.replace("|", "\\|")
        sign = "positive part of the channel sum" if spec.signed else "L2 norm over channels"
        target = "given" if spec.uses_target else "-"
        lines.append(f"| `{spec.name}` | {title} | {sign} | {target} | {spec.reference} |")
    return "\n".join(lines)


def test_methods_table():
    assert methods_table() in README, methods_table()


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_defined(name):
    assert f"| `{name}` |" in README


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_is_listed(name):
    (line,) = (line for line in README.splitlines() if line.startswith(f"| `{name}` |"))
    assert line.endswith(f" {', '.join(DATASETS[name].splits)} |")
