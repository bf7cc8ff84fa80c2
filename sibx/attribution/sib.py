"""SIBAttribution: the VJP map of S-IB, split into soft foreground and background."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sibx._captum import run_forward
from sibx._checks import check_choice, check_logits, look_up, require
from sibx.attribution.cam import draw, run_to_layers
from sibx.attribution.cotangents import CLASS_SCORES, Cotangent, differentiate, differentiate_inputs, potential
from sibx.attribution.heatmaps import image_size
from sibx.attribution.mask_rules import MASKS
from sibx.attribution.safe import SafeAttribution, Tensors, select_scores
from sibx.models.alignment import Align
from sibx.models.classes import scored_by_class, told_output
from sibx.models.finding import resolve_layer
from sibx.models.layout import to_grid

Output = Literal["foreground", "vjp", "mask", "background"]


class SIBAttribution(SafeAttribution):
    """VJP-IB: the VJP map R = J^T v split by its own density mask M.

    Args:
        forward_func: the model, or any function of the inputs.
        cotangent: which v. ``"auto"`` (default): ``"probability"`` without a target (the paper's R = J_p^T p),
            ``"logit"`` with a target. ``"probability"``: always v = p. The others make R a gradient: ``"logit"`` of the
            target's score, ``"log_probability"`` of its log-probability, ``"centered_logit"`` of its score minus the
            mean over classes, ``"ones"`` of the sum of the scores. Without a target a model with one value z per row
            has v = 1; with a target it is binary, and its classes 0 and 1 have the scores -z and z. For independent
            labels (``ByClass(model, "sigmoid")``) p are their sigmoids.
        output: what is returned: ``"foreground"`` R M (default), ``"vjp"`` R, ``"mask"`` M in every channel, or
            ``"background"`` R (1 - M).
        mask: function from R (B, C, H, W) to M (B, 1, H, W), or a key of MASKS; default the paper's DensityMask.
        layer: feature layer (a module or its dotted name) at which the VJP is taken; None = at the input. With a layer
            the map is what every position contributes there, ``sum_k R_k a_k`` over channels, drawn at the input's
            size.
        align: where each unit of a layer is drawn: ``"receptive_field"`` (default): where it looks; ``"half_pixel"``:
            in the middle of its share of the image.
        multiply_by_inputs: whether to multiply the result by the input, as Input x Gradient does; must be False for
            ``"mask"`` and with a layer.
        create_graph: whether the result stays differentiable, for losses on it.

    Attributions have the shape of the inputs; with a layer they are (B, 1, H, W), for the first input. M is defined for
    image tensors (B, C, H, W). For vectors and sequences M = 1, so that their foreground is plain R; ``"mask"`` and
    ``"background"`` need an image among the inputs, and volumes and videos have no M at all: only ``"vjp"``. R is
    signed, but its sign says how to raise the score and not what is there: read maps by their L2 norm over channels.
    Where the softmax is saturated in float64 R is zero for v = p, and the map is undefined.

    R M lies on objects more than R does, and R M with ``mask="density_l2"`` more than with the published mask; but most
    of that gain is the mask's: a blob in the middle of the image times M does as well (docs/results/post_hoc.md).

    Raises:
        ValueError: an unknown cotangent, output or mask, ``multiply_by_inputs`` with ``"mask"`` or a layer, a layer
            that does not exist or outputs no map, a missing target, or outputs that are not (B, K) for v = p.

    Source: Shu, Meng, Luo, arXiv 2511.09239.

    Example:
        >>> model, images = build_model("tiny_cnn", num_classes=5).eval(), torch.rand(2, 3, 32, 32)
        >>> SIBAttribution(model).attribute(images, target=3).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        *,
        cotangent: Literal["auto"] | Cotangent = "auto",
        output: Output = "foreground",
        mask: str | Callable[[Tensor], Tensor] = "density",
        layer: nn.Module | str | None = None,
        align: Align = "receptive_field",
        multiply_by_inputs: bool = False,
        create_graph: bool = False,
    ):
        forward_func, self.scores = told_output(forward_func)
        super().__init__(forward_func)
        check_choice("cotangent", cotangent, ("auto", *get_args(Cotangent)))
        check_choice("output", output, get_args(Output))
        check_choice("align", align, get_args(Align))
        plain = output != "mask" and layer is None
        require(plain or not multiply_by_inputs, "multiply_by_inputs", "be False for output='mask' or a layer", True)
        self.cotangent, self.output = cotangent, output
        self.mask = look_up("mask", mask, MASKS) if isinstance(mask, str) else mask
        self.layer, self.align = None, align
        if layer is not None:
            self.layer = resolve_layer(forward_func, layer)
        self._multiply_by_inputs, self.create_graph = multiply_by_inputs, create_graph

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether attributions are in units of the score (Captum's flag)."""
        return self._multiply_by_inputs

    @classmethod
    def get_name(cls) -> str:
        """Return the name Captum shows."""
        return "SIB Attribution"

    def soft_mask(self, inputs: Tensors, target: Any = None, additional_forward_args: Any = None) -> Tensor:
        """Return the soft mask M (B, 1, H, W) in (0, 1) of the first image tensor among the inputs.

        With several classes per image it is (B, T, 1, H, W).

        Args:
            inputs: a floating-point tensor with B rows, or a tuple of such tensors; images are (B, C, H, W).
            target: the class to explain, an int for all images or one int per image; a list of B lists of T classes
                each, or ``"all"``, for several classes per image; None = no target.
            additional_forward_args: further arguments of the model, passed after the inputs.

        Raises:
            ValueError: no input is an image tensor (B, C, H, W).
        """
        reader = SIBAttribution(
            scored_by_class(self.forward_func, self.scores),
            cotangent=self.cotangent,
            output="mask",
            mask=self.mask,
            layer=self.layer,
            align=self.align,
        )
        masks = reader.attribute(inputs, target, additional_forward_args)
        tensors = (inputs, masks) if isinstance(inputs, tuple) else ((inputs,), (masks,))
        first = next(mask for tensor, mask in zip(*tensors, strict=True) if tensor.ndim == 4)
        return first[..., :1, :, :].contiguous()

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        if self.layer is not None:
            return (self._split(self._decode(self.layer, inputs, target, extra)),)
        self._check_dimensions(inputs)
        outputs = run_forward(self.forward_func, inputs, None, extra)
        scalar = self._potential(outputs, target, inputs[0].shape[0])
        vjp_maps = differentiate_inputs(scalar, inputs, create_graph=self.create_graph)
        parts = tuple(self._split(r) for r in vjp_maps)
        return tuple(x * p for x, p in zip(inputs, parts, strict=True)) if self._multiply_by_inputs else parts

    def _decode(self, layer: nn.Module, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> Tensor:
        """Return the layer's contributions (B, 1, H, W), drawn at the input's size."""
        outputs, (activations,) = run_to_layers(self.forward_func, [layer], inputs, extra)
        scalar = self._potential(outputs, target, inputs[0].shape[0])
        (vjp_map,) = differentiate(scalar, [activations], create_graph=self.create_graph)
        size = image_size(inputs)
        contributions = (to_grid(vjp_map, size) * to_grid(activations, size)).sum(1, keepdim=True)
        return draw(contributions, self.forward_func, layer, self.align, inputs, extra)

    def _empty(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.layer is None:
            return super()._empty(inputs)
        return (inputs[0].new_zeros(0, 1, *inputs[0].shape[2:]),)

    def _potential(self, outputs: Any, target: Any, batch: int) -> Tensor:
        """Return the scalar whose gradient is R."""
        if isinstance(outputs, Tensor) and outputs.numel() == batch and target is None:
            return outputs.sum()  # one value per row: v = 1
        cotangent = self.cotangent
        if cotangent == "auto":
            cotangent = "probability" if target is None else "logit"
        if cotangent in CLASS_SCORES:
            several = isinstance(outputs, Tensor) and outputs.ndim == 2
            scores = CLASS_SCORES[cotangent](outputs, self.scores) if several else outputs
            return select_scores(scores, target, batch).sum()
        check_logits(outputs, batch, "forward_func")
        return potential(outputs, cotangent, output=self.scores)

    def _check_dimensions(self, inputs: tuple[Tensor, ...]) -> None:
        """Require inputs that have a soft mask, or that stand beside one that has."""
        if self.output == "vjp":
            return
        rule = f"have no more dimensions than an image (B, C, H, W) for output={self.output!r} ('vjp' takes any)"
        for tensor in inputs:
            require(tensor.ndim <= 4, "inputs", rule, tensor)
        masked = any(tensor.ndim == 4 for tensor in inputs)
        rule = f"hold an image tensor (B, C, H, W) for output={self.output!r} ('vjp' takes any shape)"
        require(masked or self.output == "foreground", "inputs", rule, inputs[0])

    def _split(self, vjp_map: Tensor) -> Tensor:
        if self.output == "vjp":
            return vjp_map
        mask = self.mask(vjp_map) if vjp_map.ndim == 4 else torch.ones_like(vjp_map)
        if self.output == "mask":
            return mask.expand_as(vjp_map)
        return vjp_map * (mask if self.output == "foreground" else 1 - mask)
