"""S-IB fine-tuning in an accelerate loop: the loss takes the place of the cross-entropy, nothing else changes.

Needs the extra ``loops``. ``torchrun --nproc-per-node 2`` trains in two processes.

    python examples/accelerate_loop.py
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from sibx import SIBConfig, SIBLoss, build_dataset
from sibx.datasets import InMemoryDataset, collate
from sibx.models import TinyCNN


def train(images: int = 256, batch_size: int = 32) -> nn.Module:
    """Train for one epoch on so many synthetic images and return the model."""
    accelerator = Accelerator(cpu=True)
    data = InMemoryDataset.load(build_dataset("synthetic", image_size=32, split="train"), range(images))
    torch.manual_seed(0)
    network = TinyCNN(num_classes=len(data.classes), width=8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    # The loss is over all processes' images and wants equally many from each: hence drop_last.
    order = torch.Generator().manual_seed(0)
    loader = DataLoader(data, batch_size, shuffle=True, drop_last=True, collate_fn=collate, generator=order)

    model, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    loss = SIBLoss(SIBConfig.recommended("given"))
    for step, batch in enumerate(loader):
        terms = loss(model, batch.images, batch.labels, batch.masks)
        optimizer.zero_grad()
        accelerator.backward(terms.total)
        optimizer.step()
        values = {name: value.item() for name, value in terms._asdict().items() if value.ndim == 0}
        accelerator.print(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    return network


if __name__ == "__main__":
    train()
