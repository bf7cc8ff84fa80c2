"""The page on methods and metrics of one's own: its code gives what it says."""

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parent.parent / "docs" / "how_to" / "add_a_method.md"


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already")
def test_methods_and_metrics_of_ones_own_run():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    torch.manual_seed(0)
    names = {}
    exec(code, names)
    rows = names["results"].rows
    assert rows["method"].unique().tolist() == ["gradient", "Saliency", "NoiseTunnel", "times", "sib"]
    values = rows.pivot(index=["image_id", "method"], columns="metric", values="value")
    assert values["inside"].to_numpy() == pytest.approx(values["foreground_focus"].to_numpy(), rel=1e-5)
