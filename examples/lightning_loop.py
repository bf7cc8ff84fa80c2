"""S-IB fine-tuning with a Lightning Trainer: the loss takes the place of the cross-entropy in ``training_step``.

Needs the extra ``loops``.

    python examples/lightning_loop.py
"""

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sibx import SIBConfig, SIBLoss, build_dataset
from sibx.datasets import InMemoryDataset, MaskedBatch, collate
from sibx.models import TinyCNN


class Classifier(lightning.LightningModule):
    """A network with the S-IB loss."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.loss = network, SIBLoss(SIBConfig.recommended("given"))

    def training_step(self, batch: MaskedBatch, index: int) -> Tensor:
        """Return the loss of a batch, and print its terms."""
        terms = self.loss(self.network, batch.images, batch.labels, batch.masks)
        values = {name: value.item() for name, value in terms._asdict().items() if value.ndim == 0}
        self.print(f"step {index}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
        return terms.total

    def transfer_batch_to_device(self, batch: MaskedBatch, device: torch.device, _: int) -> MaskedBatch:
        """Move a batch, whose class Lightning does not know."""
        return batch.to(device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.network.parameters(), lr=5e-3)


def train(images: int = 256, batch_size: int = 32) -> nn.Module:
    """Train for one epoch on so many synthetic images and return the model."""
    data = InMemoryDataset.load(build_dataset("synthetic", image_size=32, split="train"), range(images))
    torch.manual_seed(0)
    network = TinyCNN(num_classes=len(data.classes), width=8)
    # The loss is over all processes' images and wants equally many from each: hence drop_last.
    order = torch.Generator().manual_seed(0)
    loader = DataLoader(data, batch_size, shuffle=True, drop_last=True, collate_fn=collate, generator=order)

    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(network), loader)
    return network


if __name__ == "__main__":
    train()
