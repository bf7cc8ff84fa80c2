"""Captum-compatible attribution: the METHODS table, ``build_method`` and ``explain_many``.

To add a method: one file here with a class, and one line in METHODS.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sibx._checks import look_up, require
from sibx.attribution import controls
from sibx.attribution.ablationcam import AblationCAM
from sibx.attribution.base import Method, MethodSpec, SafeAttribution, to_heatmap
from sibx.attribution.cam_base import GradientCAM, SharedCAMs
from sibx.attribution.controls import ControlMap
from sibx.attribution.eigencam import EigenCAM
from sibx.attribution.gradcam import GradCAM
from sibx.attribution.gradcam_pp import GradCAMPlusPlus
from sibx.attribution.gradients import InputXGradient, Saliency, SmoothGrad, VarGrad
from sibx.attribution.hirescam import HiResCAM
from sibx.attribution.integrated import GradientSHAP, IntegratedGradients
from sibx.attribution.layercam import LayerCAM
from sibx.attribution.modules import DeepLift, GuidedBackprop, GuidedGradCAM
from sibx.attribution.perturbation import RISE, Occlusion
from sibx.attribution.scorecam import ScoreCAM
from sibx.attribution.sib import SIBAttribution
from sibx.attribution.soft_mask import DensityMask, TopShare, soft_quantile
from sibx.attribution.vjp import VJP, vjp
from sibx.attribution.xgradcam import XGradCAM

__all__ = [
    "METHODS",
    "RISE",
    "VJP",
    "AblationCAM",
    "ControlMap",
    "DeepLift",
    "DensityMask",
    "EigenCAM",
    "GradCAM",
    "GradCAMPlusPlus",
    "GradientSHAP",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "InputXGradient",
    "IntegratedGradients",
    "LayerCAM",
    "Method",
    "MethodSpec",
    "Occlusion",
    "SIBAttribution",
    "SafeAttribution",
    "Saliency",
    "ScoreCAM",
    "SmoothGrad",
    "TopShare",
    "VarGrad",
    "XGradCAM",
    "build_method",
    "explain_many",
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
    "vargrad": MethodSpec(
        name="vargrad",
        title="VarGrad",
        build=lambda model, _: VarGrad(model),
        needs_layer=False,
        uses_target=True,
        signed=False,
        reference="Adebayo 2018, arXiv 1810.03292",
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
    "gradient_shap": MethodSpec(
        name="gradient_shap",
        title="GradientSHAP",
        build=lambda model, _: GradientSHAP(model),
        needs_layer=False,
        uses_target=True,
        signed=True,
        reference="Lundberg 2017, arXiv 1705.07874; Erion 2019, arXiv 1906.10670",
    ),
    "guided_backprop": MethodSpec(
        name="guided_backprop",
        title="Guided Backprop",
        build=lambda model, _: GuidedBackprop(model),
        needs_layer=False,
        uses_target=True,
        signed=False,
        reference="Springenberg 2014, arXiv 1412.6806",
    ),
    "guided_gradcam": MethodSpec(
        name="guided_gradcam",
        title="Guided Grad-CAM",
        build=GuidedGradCAM,
        needs_layer=True,
        uses_target=True,
        signed=False,
        reference="Selvaraju 2017, arXiv 1610.02391",
    ),
    "deeplift": MethodSpec(
        name="deeplift",
        title="DeepLIFT",
        build=lambda model, _: DeepLift(model),
        needs_layer=False,
        uses_target=True,
        signed=True,
        reference="Shrikumar 2017, arXiv 1704.02685",
    ),
    "occlusion": MethodSpec(
        name="occlusion",
        title="Occlusion",
        build=lambda model, _: Occlusion(model),
        needs_layer=False,
        uses_target=True,
        signed=True,
        reference="Zeiler 2014, arXiv 1311.2901",
    ),
    "rise": MethodSpec(
        name="rise",
        title="RISE",
        build=lambda model, _: RISE(model),
        needs_layer=False,
        uses_target=True,
        signed=True,
        reference="Petsiuk 2018, arXiv 1806.07421",
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
    "gradcam_pp": MethodSpec(
        name="gradcam_pp",
        title="Grad-CAM++",
        build=GradCAMPlusPlus,
        needs_layer=True,
        uses_target=True,
        signed=True,
        reference="Chattopadhay 2018, arXiv 1710.11063",
    ),
    "layercam": MethodSpec(
        name="layercam",
        title="LayerCAM",
        build=LayerCAM,
        needs_layer=True,
        uses_target=True,
        signed=True,
        reference="Jiang 2021, IEEE TIP 30",
    ),
    "hirescam": MethodSpec(
        name="hirescam",
        title="HiResCAM",
        build=HiResCAM,
        needs_layer=True,
        uses_target=True,
        signed=True,
        reference="Draelos 2020, arXiv 2011.08891",
    ),
    "xgradcam": MethodSpec(
        name="xgradcam",
        title="XGrad-CAM",
        build=XGradCAM,
        needs_layer=True,
        uses_target=True,
        signed=True,
        reference="Fu 2020, arXiv 2008.02312",
    ),
    "eigencam": MethodSpec(
        name="eigencam",
        title="Eigen-CAM",
        build=EigenCAM,
        needs_layer=True,
        uses_target=False,
        signed=True,
        reference="Muhammad 2020, arXiv 2008.00299",
    ),
    "scorecam": MethodSpec(
        name="scorecam",
        title="Score-CAM",
        build=ScoreCAM,
        needs_layer=True,
        uses_target=True,
        signed=True,
        reference="Wang 2020, arXiv 1910.01279",
    ),
    "ablationcam": MethodSpec(
        name="ablationcam",
        title="Ablation-CAM",
        build=AblationCAM,
        needs_layer=True,
        uses_target=True,
        signed=True,
        reference="Desai 2020, WACV",
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


def explain_many(
    model: nn.Module,
    images: Tensor,
    target: Any,
    methods: Sequence[str | MethodSpec],
    layer: nn.Module | str | None = None,
) -> dict[str, Tensor]:
    """Explain the same images by several methods; the gradient CAMs among them share one forward and one backward.

    Args:
        model: images -> logits (B, K).
        images: (B, C, H, W).
        target: the class, as for ``attribute``.
        methods: keys of METHODS, or specs of your own.
        layer: for methods that need one; None = ``find_cam_layer(model)``.

    Returns:
        Name -> attributions, in the order asked for.

    Raises:
        ValueError: unknown or repeated names.
    """
    specs = [m if isinstance(m, MethodSpec) else look_up("methods", m, METHODS) for m in methods]
    names = [s.name for s in specs]
    require(len(set(names)) == len(names), "methods", "name none twice", names)
    shared = {s.name: s.build for s in specs if isinstance(s.build, type) and issubclass(s.build, GradientCAM)}
    found: dict[str, Tensor] = {}
    if shared:
        maps = SharedCAMs(model, layer, list(shared.values())).attribute((images,), target)
        found = dict(zip(shared, maps, strict=True))
    for spec in specs:
        if spec.name not in found:
            options = {"target": target} if spec.uses_target else {}
            found[spec.name] = spec.build(model, layer).attribute(images, **options)
    return {name: found[name] for name in names}
