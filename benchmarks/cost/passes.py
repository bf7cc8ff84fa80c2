"""What ``explanations.py`` times: one network, one batch, and every pass and training step over it."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from captum import attr as captum
from pytorch_grad_cam import GradCAM as PeerGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from stand_ins import EVERY_TERM
from torch import Tensor, nn

from sibx import SIBConfig, SIBLoss, build_model
from sibx.attribution import explain_many
from sibx.models import record
from sibx.objectives import class_evidence

FIVE = ("gradcam", "gradcam_pp", "layercam", "hirescam", "xgradcam")
STEPS, CLASSES, LAYER = 16, 1000, "layer4"


class Workload:
    """One network and one batch, and every pass over it that is timed."""

    def __init__(self, device: str, batch: int, side: int = 224, network: str = "resnet18", layer: str = LAYER):
        torch.manual_seed(0)
        self.model: nn.Module = build_model(network, CLASSES).eval().to(device)
        self.layer = self.model.get_submodule(layer)
        self.images = torch.randn(batch, 3, side, side, device=device)
        self.target = [i % CLASSES for i in range(batch)]
        self.layer_gradcam = captum.LayerGradCam(self.model, self.layer)
        self.peer = PeerGradCAM(self.model, [self.layer])

    def forward(self) -> Tensor:
        """The bare forward pass."""
        with torch.no_grad():
            return self.model(self.images)

    def forward_backward(self) -> Tensor:
        """One forward pass and one backward pass to the images."""
        leaf = self.images.detach().requires_grad_()
        score = self.model(leaf).gather(1, torch.tensor(self.target, device=leaf.device)[:, None]).sum()
        return torch.autograd.grad(score, leaf)[0]

    def captum_gradcam(self) -> Tensor:
        """Captum's Grad-CAM at the images' size."""
        small = self.layer_gradcam.attribute(self.images, self.target, relu_attributions=True)
        return F.interpolate(small, self.images.shape[2:], mode="bilinear").detach()

    def peer_gradcam(self) -> object:
        """grad-cam's Grad-CAM."""
        return self.peer(self.images, [ClassifierOutputTarget(t) for t in self.target])

    def captum_integrated_gradients(self) -> Tensor:
        """Captum's IG with as many points per pass as ours, one step of the batch."""
        return captum.IntegratedGradients(self.model).attribute(
            self.images, target=self.target, n_steps=STEPS, internal_batch_size=len(self.images)
        )

    def captum_saliency(self) -> Tensor:
        """Captum's plain gradient."""
        return captum.Saliency(self.model).attribute(self.images.detach().requires_grad_(), self.target)

    def explain(self, method: Any) -> Callable[[], object]:
        """A call of one of our methods."""
        return lambda: method.attribute(self.images, target=self.target)

    def five(self) -> object:
        """Five gradient CAMs at once."""
        return explain_many(self.model, self.images, self.target, FIVE, LAYER)

    def evidence(self, cotangents: int | None = None) -> Tensor:
        """The forward pass and the evidence for all classes at the last feature map."""
        with record(self.model, {LAYER: self.layer}) as outputs:
            logits = self.model(self.images)
        return class_evidence(logits, outputs[LAYER], cotangents=cotangents)


class Step:
    """One training step of the same network and batch: the gradients of all parameters, without the optimizer."""

    def __init__(self, device: str):
        self.work = Workload(device, 8)
        self.labels = torch.tensor(self.work.target, device=device)
        self.masks = torch.zeros_like(self.work.images[:, :1], dtype=torch.bool)
        self.masks[..., 60:160, 60:160] = True
        self.parameters = list(self.work.model.parameters())

    def cross_entropy(self) -> None:
        """Cross-entropy alone."""
        self._backward(F.cross_entropy(self.work.model(self.work.images), self.labels))

    def plain(self) -> None:
        """The published loss as its formulas stand, the slow form that the tests compare with."""
        self._backward(plain_formulas().loss(self.work.model, self.work.images, self.labels, window=31)[0])

    def sib(self, config: SIBConfig) -> Callable[[], None]:
        """The S-IB loss."""
        loss = SIBLoss(config)
        given = self.masks if config.needs_masks else None
        return lambda: self._backward(loss(self.work.model, self.work.images, self.labels, given).total)

    def _backward(self, loss: Tensor) -> None:
        self.work.model.zero_grad(set_to_none=True)
        loss.backward(inputs=self.parameters)


def plain_formulas() -> Any:
    """tests/references/sib.py of this checkout."""
    file = Path(__file__).parents[2] / "tests" / "references" / "sib.py"
    specification = importlib.util.spec_from_file_location("plain_formulas", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def feature_space() -> SIBConfig:
    """S-IB with every term on given masks, at the last feature map."""
    return replace(SIBConfig.recommended("given", layers={LAYER: 1.0}), **EVERY_TERM)
