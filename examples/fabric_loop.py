"""S-IB fine-tuning in a Lightning Fabric loop: the loss takes the place of the cross-entropy, nothing else changes.

Needs the extra ``loops``. ``fabric run --accelerator cpu --devices 2 --strategy ddp`` trains in two processes.

    python examples/fabric_loop.py
"""

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader

from sibx import SIBConfig, SIBLoss, build_dataset
from sibx.datasets import InMemoryDataset, collate
from sibx.models import TinyCNN


def train(images: int = 256, batch_size: int = 32) -> nn.Module:
    """Train for one epoch on so many synthetic images and return the model."""
    fabric = Fabric(accelerator="cpu")
    data = InMemoryDataset.load(build_dataset("synthetic", image_size=32, split="train"), range(images))
    torch.manual_seed(0)
    network = TinyCNN(num_classes=len(data.classes), width=8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    # The loss is over all processes' images and wants equally many from each: hence drop_last.
    order = torch.Generator().manual_seed(0)
    loader = DataLoader(data, batch_size, shuffle=True, drop_last=True, collate_fn=collate, generator=order)

    model, optimizer = fabric.setup(network, optimizer)
    loss = SIBLoss(SIBConfig.recommended("given"))
    for step, batch in enumerate(fabric.setup_dataloaders(loader)):
        terms = loss(model, batch.images, batch.labels, batch.masks)
        optimizer.zero_grad()
        fabric.backward(terms.total)
        optimizer.step()
        values = {name: value.item() for name, value in terms._asdict().items() if value.ndim == 0}
        fabric.print(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    return network


if __name__ == "__main__":
    train()
