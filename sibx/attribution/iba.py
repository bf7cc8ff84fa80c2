"""Information bottleneck attribution (Schulz et al., ICLR 2020), fitted anew for every image."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sibx._checks import check_finite, check_integer, check_seed, require
from sibx._outputs import Output, check_output
from sibx.attribution.cam import CAM, Layer, run_to_layers
from sibx.attribution.cotangents import CLASS_SCORES, differentiate
from sibx.attribution.heatmaps import image_size
from sibx.attribution.layer_statistics import Gathering, LayerStatistics, batches_of
from sibx.attribution.safe import grad_enabled, select_scores
from sibx.models.alignment import Align
from sibx.models.classes import told_output
from sibx.models.finding import resolve_layer
from sibx.models.layers import eval_mode
from sibx.models.layout import Size, to_grid, token_grid

START = 5.0  # of the logit of lambda, which is .993 then: nearly everything passes
LEAST_DEVIATION, LEAST_ACTIVE = 0.01, 0.01  # of a unit that takes part: as in the authors' code


class IBA(CAM):
    """IBA: how many bits of a layer must pass, place by place, so that the model still finds the class.

    The layer's output a is mixed with noise e that looks like the layer, ``z = l a + (1 - l) e`` with e normal of the
    mean and deviation that every unit has over the images of ``fit``. For every image l is found by ``steps`` steps of
    Adam, which lower ``-log p_t + beta mean_i KL_i``, p_t averaged in its logarithm over ``copies`` draws of noise, and
    ``KL_i = ((l r)^2 + (1 - l)^2 - 1) / 2 - log(1 - l)`` with r the unit's deviation from its mean in standard
    deviations. The map is the sum of KL over channels, in bits.

    It needs the layer's mean and deviation first: ``IBA(model, layer).fit(images)``, once per model; ``evaluate``
    fits the METHODS line on images of its data set. The paper takes a layer in the middle of the network; at the last
    one the map is coarse.

    Args:
        forward_func: the model, a ``torch.nn.Module``; or any function, with a layer that is a module.
        layer: a module or its dotted name; None = ``find_cam_layer``. The layer's output alone is made noisy: what
            passes beside it, through a skip connection, is not counted.
        output: what the logits are: ``softmax``, ``sigmoid`` or ``raw``, whose score stands for the log-probability;
            ``auto`` = ``sigmoid`` for a single logit, else ``softmax``.
        beta: price of the mean of KL over units, in nats: higher means that less passes.
        steps: number of steps of Adam, of ``copies`` forward and backward passes of the batch each.
        copies: number of draws of noise in every step.
        rate: learning rate of Adam.
        sigma: deviation of the Gaussian that smooths l over places, in cells of the layer; 0 = none.
        seed: seed of the noise. All images get the same noise, so an image's map does not depend on its batch.
        upsample: whether to draw the map at the input's height and width (default) or to keep the layer's grid.
        align: where a unit is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``: in the middle
            of its share of the image.

    Attributes:
        statistics: what ``fit`` found, or None; its ``save`` and ``LayerStatistics.load`` keep it in a file.

    Attributions (B, 1, H, W), at least 0, in bits: their sum over an image is what the layer passes. Of a transformer's
    layer, bits of tokens in front of the patches (class, registers) are priced, but have no place in the map.

    Raises:
        ValueError: a number out of range, several layers, a call before ``fit``, images of another size than those of
            ``fit``, a layer that does not exist or whose output is no map.

    Source: Schulz et al., arXiv 2001.00396 (per-sample bottleneck: beta = 10 for the mean over units, 10 steps of rate
    1, 10 copies, sigma 1).

    Example:
        >>> model, images = build_model("tiny_cnn", num_classes=5).eval(), torch.rand(8, 3, 32, 32)
        >>> IBA(model).fit(images).attribute(images[:2], target=3).shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: Layer = None,
        *,
        output: Output = "auto",
        beta: float = 10.0,
        steps: int = 10,
        copies: int = 10,
        rate: float = 1.0,
        sigma: float = 1.0,
        seed: int = 0,
        upsample: bool = True,
        align: Align = "receptive_field",
    ):
        forward_func, output = told_output(forward_func, output)
        super().__init__(forward_func, layer, upsample=upsample, align=align)
        require(len(self._asked) == 1, "layer", "be one layer", layer)
        check_output(output)
        check_finite("beta", beta, 0)
        check_integer("steps", steps, 1)
        check_integer("copies", copies, 1)
        check_finite("rate", rate, 1e-9)
        check_finite("sigma", sigma, 0)
        check_seed("seed", seed)
        self.output, self.beta, self.steps, self.copies = output, beta, steps, copies
        self.rate, self.sigma, self.seed = rate, sigma, seed
        self.statistics: LayerStatistics | None = None

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "IBA"

    def fit(self, data: Tensor | Iterable[Any] | LayerStatistics) -> "IBA":
        """Estimate the mean and deviation of every unit of the layer, one forward pass of every image.

        Args:
            data: images (N, C, H, W) as the model expects them, of the size of those that will be explained; or an
                iterable of such tensors, of batches of sibx, or of tuples, lists or dicts that begin with images, such
                as a data loader; or the statistics themselves. The authors advise 10,000 images.

        Returns:
            This object.

        Raises:
            ValueError: fewer than 2 images, images of different sizes, one on which the layer is not finite, or data of
                another form.
        """
        if isinstance(data, LayerStatistics):
            known = data.mean.isfinite().all() and data.deviation.isfinite().all()
            require(bool(known), "data", "hold a finite mean and deviation of every unit", "NaN or infinity")
            self.statistics = data
            return self
        gathering, model = Gathering(), self.forward_func
        place = next(model.parameters(), torch.zeros(())).device if isinstance(model, nn.Module) else None
        with grad_enabled(), torch.no_grad(), eval_mode(model):
            for images in batches_of(data):
                here = (images.to(place),)
                layer = resolve_layer(model, self._asked[0], *here)
                gathering.add(run_to_layers(model, [layer], here, ())[1][0])
        self.statistics = gathering.result()
        return self

    def load(self, path: str | Path) -> "IBA":
        """Take statistics that ``iba.statistics.save(path)`` wrote, instead of ``fit``; returns this object.

        Args:
            path: file to read.

        Raises:
            ValueError: the file is missing, damaged, or holds something else.
        """
        return self.fit(LayerStatistics.load(path))

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        (bits,) = self._maps(inputs, target, extra)
        drawn = self._merge([bits], inputs, extra)
        # Drawn at the input's size a map has another sum; bits have to add up.
        total, shown = (m.sum((1, 2, 3), keepdim=True) for m in (bits, drawn))
        return ((drawn * (total / shown.where(shown != 0, 1))).to(inputs[0].dtype),)

    def _maps(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> list[Tensor]:
        inputs, size = tuple(t.detach() for t in inputs), image_size(inputs)
        (layer,) = self._layers(inputs, extra)
        with torch.no_grad():
            features = run_to_layers(self.forward_func, [layer], inputs, extra)[1][0]
        bottleneck = _Bottleneck(features, self._fitting(features), self.sigma, size)
        adam = torch.optim.Adam([bottleneck.alpha], lr=self.rate)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.steps):
            noise = torch.randn(self.copies, *features.shape[1:], generator=generator).to(features.device)
            priced = self.beta * bottleneck.divergence().flatten(1).mean(1).sum()
            (gradient,) = differentiate(priced, [bottleneck.alpha])
            for draw in noise:
                rewrite = {"0": lambda _, draw=draw: bottleneck.mix(draw)}
                outputs, _ = run_to_layers(self.forward_func, [layer], inputs, extra, rewrite)
                loss = -self._score(outputs, target, len(features)).sum() / self.copies
                gradient = gradient + differentiate(loss, [bottleneck.alpha])[0]
            bottleneck.alpha.grad = gradient
            adam.step()
        with torch.no_grad():
            return [to_grid(bottleneck.divergence(), size).sum(1, keepdim=True) / math.log(2)]

    def _fitting(self, features: Tensor) -> LayerStatistics:
        """Return the statistics on the features' device, or say why there are none."""
        if self.statistics is None:
            raise ValueError(
                "`IBA` must know the layer's mean and deviation, but is not fitted: call "
                "IBA(model, layer).fit(images) first, with images of its data (`evaluate` does so itself)."
            )
        s = self.statistics
        rule = f"have features of the shape of those it was fitted on, {tuple(s.mean.shape)}"
        require(s.mean.shape == features.shape[1:], "inputs", rule, tuple(features.shape[1:]))
        mean, deviation, active = (t.to(features.device) for t in s[:3])
        return LayerStatistics(mean, deviation, active, s.seen)

    def _score(self, outputs: Any, target: Any, batch: int) -> Tensor:
        """The target's log-probability of every row; of one value per row without a target, the value."""
        if target is not None and isinstance(outputs, Tensor) and outputs.ndim == 2 and self.output != "raw":
            outputs = CLASS_SCORES["log_probability"](outputs, self.output)
        return select_scores(outputs, target, batch)


class _Bottleneck:
    """The noisy layer of a batch: one lambda per unit and row, found by gradient descent on its logit alpha."""

    def __init__(self, features: Tensor, statistics: LayerStatistics, sigma: float, size: Size):
        self.features, self.size, self.sigma = features, size, sigma
        precise = torch.promote_types(features.dtype, torch.float32)  # 1 - lambda is as small as 1e-7
        self.mean = statistics.mean.to(precise)
        self.deviation = statistics.deviation.to(precise).clamp_min(LEAST_DEVIATION)
        self.active = statistics.active > LEAST_ACTIVE
        self.r = (features.to(precise) - self.mean) / self.deviation
        self.alpha = torch.full_like(self.r, START).requires_grad_()

    def mix(self, draw: Tensor) -> Tensor:
        """Return what the rest of the model sees, with standard normal noise of the shape of one row."""
        passed = self._passed()
        noisy = passed * self.r + (1 - passed) * draw.to(self.r)
        return ((self.mean + self.deviation * noisy) * self.active).to(self.features.dtype)

    def divergence(self) -> Tensor:
        """KL of what passes from noise alone, in nats, for every unit and row."""
        passed = self._passed()
        left = (1 - passed).clamp_min(torch.finfo(passed.dtype).tiny)
        return (((passed * self.r).square() + left.square() - 1) / 2 - left.log()) * self.active

    def _passed(self) -> Tensor:
        """Lambda, smoothed over places; of tokens those that lie on the grid."""
        passed = self.alpha.sigmoid()
        if not self.sigma:
            return passed
        if passed.ndim == 4:
            return _smoothed(passed, self.sigma)
        grid, patches = token_grid(passed, self.size), _smoothed(to_grid(passed, self.size), self.sigma)
        assert grid is not None  # or to_grid had said so
        return torch.cat([passed[:, : grid.extra], patches.flatten(2).transpose(1, 2)], 1)


def _smoothed(maps: Tensor, sigma: float) -> Tensor:
    """Blur maps (B, C, h, w) by a Gaussian that reaches two deviations and is reflected at the borders."""
    for axis in (2, 3):
        reach = min(round(2 * sigma), maps.shape[axis] - 1)
        offsets = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
        weights = (-(offsets**2) / (2 * sigma**2)).exp()
        kernel = (weights / weights.sum()).view(*((-1, 1) if axis == 2 else (1, -1)))
        sides = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        padded = F.pad(maps, sides, mode="reflect")
        maps = F.conv2d(padded.flatten(0, 1).unsqueeze(1), kernel[None, None]).view_as(maps)
    return maps
