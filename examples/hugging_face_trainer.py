"""S-IB fine-tuning with the Trainer of transformers: the loss takes the place of the cross-entropy in ``compute_loss``.

Needs the extra ``loops``.

    python examples/hugging_face_trainer.py
"""

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments, get_constant_schedule

from sibx import SIBConfig, SIBLoss, build_dataset
from sibx.datasets import InMemoryDataset, MaskedSample, collate
from sibx.models import TinyCNN


class SIBTrainer(Trainer):
    """A Trainer with the S-IB loss; a model with ``.logits`` is wrapped: ``sibx.Scored(model, "logits")``."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.loss = SIBLoss(SIBConfig.recommended("given"))

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        """Return the loss of a batch, and print its terms."""
        terms = self.loss(model, inputs["images"], inputs["labels"], inputs["masks"])
        values = {name: value.item() for name, value in terms._asdict().items() if value.ndim == 0}
        shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        print(f"step {self.state.global_step}: {shown}")
        return terms.total

    def get_train_dataloader(self) -> "DataLoader[MaskedSample]":
        """Return batches in an order of our own; leave this out for that of the Trainer."""
        order = torch.Generator().manual_seed(0)
        size: Any = self.args.per_device_train_batch_size
        return DataLoader(self.train_dataset, size, shuffle=True, drop_last=True, collate_fn=as_inputs, generator=order)


def as_inputs(samples: list[MaskedSample]) -> dict[str, Tensor]:
    """Return samples as a dictionary, which the Trainer moves to its device."""
    batch = collate(samples)
    return {"images": batch.images, "labels": batch.labels, "masks": batch.masks}


def train(images: int = 256, batch_size: int = 32) -> nn.Module:
    """Train for one epoch on so many synthetic images and return the model."""
    data = InMemoryDataset.load(build_dataset("synthetic", image_size=32, split="train"), range(images))
    torch.manual_seed(0)
    network = TinyCNN(num_classes=len(data.classes), width=8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            per_device_train_batch_size=batch_size,
            num_train_epochs=1,
            max_grad_norm=0,  # no clipping
            use_cpu=True,
            remove_unused_columns=False,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        schedule = get_constant_schedule(optimizer)
        SIBTrainer(network, settings, train_dataset=data, optimizers=(optimizer, schedule)).train()
    return network


if __name__ == "__main__":
    train()
