"""SIBAttribution: the VJP map of S-IB and its soft foreground."""

from collections.abc import Callable
from typing import Any, Literal

from captum._utils.common import _run_forward
from torch import Tensor

from sibx._checks import check_choice, check_logits, require
from sibx.attribution.base import SafeAttribution, Tensors, select_scores
from sibx.attribution.soft_mask import DensityMask
from sibx.attribution.vjp import differentiate, potential

Output = Literal["foreground", "vjp", "mask", "background"]


class SIBAttribution(SafeAttribution):
    """VJP-IB: the VJP map R = J^T v split by its own density mask M.

    Args:
        forward_func: model, or any function of the inputs.
        cotangent: ``"auto"`` (default): v = p without a target (the paper's R = J_p^T p), e_target with one;
            ``"probability"``: always v = p; ``"target"``: the gradient of the target's score; ``"ones"``: of their sum.
            A model with one value per row has v = 1.
        output: ``"foreground"`` R M (default), ``"vjp"`` R, ``"mask"`` M in every channel, ``"background"`` R (1 - M).
        mask: maps R (B, C, H, W) to M (B, 1, H, W); default the paper's ``DensityMask()``.
        multiply_by_inputs: multiply the result by the input, as Input x Gradient does; not for ``"mask"``.
        create_graph: keep the result differentiable, for losses on it.

    Attributions have the shape of the inputs. M is defined for image tensors (B, C, H, W); any other tensor in a
    tuple of inputs gets plain R. R is signed, but its sign says how to raise the score and not what is there: read
    maps by their L2 norm over channels. Where the softmax is saturated R is zero for v = p, and the map undefined.

    Raises:
        ValueError: unknown cotangent or output, ``multiply_by_inputs`` with ``"mask"``, a missing target, or outputs
            that are not (B, K) for v = p.

    Source: Shu, Meng, Luo, arXiv 2511.09239.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        *,
        cotangent: Literal["auto", "probability", "target", "ones"] = "auto",
        output: Output = "foreground",
        mask: Callable[[Tensor], Tensor] | None = None,
        multiply_by_inputs: bool = False,
        create_graph: bool = False,
    ):
        super().__init__(forward_func)
        check_choice("cotangent", cotangent, ("auto", "probability", "target", "ones"))
        check_choice("output", output, ("foreground", "vjp", "mask", "background"))
        self.cotangent, self.output = cotangent, output
        require(not (multiply_by_inputs and output == "mask"), "multiply_by_inputs", "be False for output='mask'", True)
        self.mask = DensityMask() if mask is None else mask
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

        Args:
            inputs: as for ``attribute``.
            target: as for ``attribute``.
            additional_forward_args: as for ``attribute``.

        Raises:
            ValueError: no input is an image tensor (B, C, H, W).
        """
        reader = SIBAttribution(self.forward_func, cotangent=self.cotangent, output="mask", mask=self.mask)
        masks = reader.attribute(inputs, target, additional_forward_args)
        images = [m for m in (masks if isinstance(masks, tuple) else (masks,)) if m.ndim == 4]
        require(bool(images), "inputs", "hold an image tensor (B, C, H, W)", inputs)
        return images[0][:, :1].contiguous()

    def _explain(self, inputs: tuple[Tensor, ...], target: Any, extra: tuple[Any, ...]) -> tuple[Tensor, ...]:
        outputs = _run_forward(self.forward_func, inputs, None, extra)
        scalar = self._potential(outputs, target, len(inputs[0]))
        vjp_maps = differentiate(scalar, inputs, create_graph=self.create_graph)
        parts = tuple(self._split(r) if r.ndim == 4 else r for r in vjp_maps)
        return tuple(x * p for x, p in zip(inputs, parts, strict=True)) if self._multiply_by_inputs else parts

    def _potential(self, outputs: Any, target: Any, batch: int) -> Tensor:
        """The scalar whose gradient is R."""
        if isinstance(outputs, Tensor) and outputs.numel() == batch and target is None:
            return outputs.sum()  # one value per row: v = 1
        by_class = self.cotangent == "target" or (self.cotangent == "auto" and target is not None)
        if by_class:
            return select_scores(outputs, target, batch).sum()
        check_logits(outputs, batch, "forward_func")
        return potential(outputs, "probability" if self.cotangent == "auto" else self.cotangent)

    def _split(self, vjp_map: Tensor) -> Tensor:
        if self.output == "vjp":
            return vjp_map
        mask = self.mask(vjp_map)
        if self.output == "mask":
            return mask.expand_as(vjp_map)
        return vjp_map * (mask if self.output == "foreground" else 1 - mask)
