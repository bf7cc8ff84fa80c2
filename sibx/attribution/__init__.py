"""Captum-compatible attribution: the METHODS table and ``build_method``.

To add a method: one file here with a class, and one line in METHODS.
"""

from torch import nn

from sibx._checks import look_up
from sibx.attribution import controls
from sibx.attribution.base import Method, MethodSpec, SafeAttribution, to_heatmap
from sibx.attribution.controls import ControlMap
from sibx.attribution.gradcam import GradCAM
from sibx.attribution.gradients import InputXGradient, Saliency, SmoothGrad
from sibx.attribution.integrated import IntegratedGradients
from sibx.attribution.sib import SIBAttribution
from sibx.attribution.soft_mask import DensityMask, TopShare, soft_quantile
from sibx.attribution.vjp import VJP, vjp

__all__ = [
    "METHODS",
    "VJP",
    "ControlMap",
    "DensityMask",
    "GradCAM",
    "InputXGradient",
    "IntegratedGradients",
    "Method",
    "MethodSpec",
    "SIBAttribution",
    "SafeAttribution",
    "Saliency",
    "SmoothGrad",
    "TopShare",
    "build_method",
    "soft_quantile",
    "to_heatmap",
    "vjp",
]

METHODS: dict[str, MethodSpec] = {
    "sib": MethodSpec(
        name="sib",
        title="VJP-IB (R M)",
        build=lambda model, _: SIBAttribution(model),
        needs_layer=False,
        uses_target=True,
        signed=False,
        reference="Shu 2025, arXiv 2511.09239",
    ),
    "vjp": MethodSpec(
        name="vjp",
        title="VJP (R = J_p^T p)",
        build=lambda model, _: SIBAttribution(model, cotangent="probability", output="vjp"),
        needs_layer=False,
        uses_target=False,
        signed=False,
        reference="Shu 2025, arXiv 2511.09239",
    ),
    "saliency": MethodSpec(
        name="saliency",
        title="Saliency",
        build=lambda model, _: Saliency(model),
        needs_layer=False,
        uses_target=True,
        signed=False,
        reference="Simonyan 2013, arXiv 1312.6034",
    ),
    "input_x_gradient": MethodSpec(
        name="input_x_gradient",
        title="Input x Gradient",
        build=lambda model, _: InputXGradient(model),
        needs_layer=False,
        uses_target=True,
        signed=True,
        reference="Shrikumar 2016, arXiv 1605.01713",
    ),
    "smoothgrad": MethodSpec(
        name="smoothgrad",
        title="SmoothGrad",
        build=lambda model, _: SmoothGrad(model),
        needs_layer=False,
        uses_target=True,
        signed=False,
        reference="Smilkov 2017, arXiv 1706.03825",
    ),
    "integrated_gradients": MethodSpec(
        name="integrated_gradients",
        title="Integrated Gradients",
        build=lambda model, _: IntegratedGradients(model),
        needs_layer=False,
        uses_target=True,
        signed=True,
        reference="Sundararajan 2017, arXiv 1703.01365",
    ),
    "gradcam": MethodSpec(
        name="gradcam",
        title="Grad-CAM",
        build=GradCAM,
        needs_layer=True,
        uses_target=True,
        signed=True,
        reference="Selvaraju 2017, arXiv 1610.02391",
    ),
    "control_abs_input": MethodSpec(
        name="control_abs_input",
        title="control: |x|",
        build=lambda *_: ControlMap(controls.abs_input),
        needs_layer=False,
        uses_target=False,
        signed=False,
        reference="model-free control",
    ),
    "control_input_contrast": MethodSpec(
        name="control_input_contrast",
        title="control: |x - mean|",
        build=lambda *_: ControlMap(controls.input_contrast),
        needs_layer=False,
        uses_target=False,
        signed=False,
        reference="model-free control",
    ),
    "control_center": MethodSpec(
        name="control_center",
        title="control: center",
        build=lambda *_: ControlMap(controls.center),
        needs_layer=False,
        uses_target=False,
        signed=False,
        reference="model-free control",
    ),
    "control_random": MethodSpec(
        name="control_random",
        title="control: random",
        build=lambda *_: ControlMap(controls.random),
        needs_layer=False,
        uses_target=False,
        signed=False,
        reference="model-free control",
    ),
}


def build_method(name: str | MethodSpec, model: nn.Module, layer: nn.Module | str | None = None) -> Method:
    """Build an attribution method from the METHODS table.

    Args:
        name: key of METHODS, or a MethodSpec of your own.
        model: images (B, C, H, W) -> logits (B, K).
        layer: for methods that need one; None = ``find_cam_layer(model)``.

    Raises:
        ValueError: unknown name; the message lists the choices and the closest match.
    """
    spec = name if isinstance(name, MethodSpec) else look_up("name", name, METHODS)
    return spec.build(model, layer)
