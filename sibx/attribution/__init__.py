"""Captum-compatible attribution: the METHODS table, ``build_method`` and ``explain_many``.

To add a method: one file here with a class, and one line in METHODS.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sibx._checks import look_up, require
from sibx.attribution import controls
from sibx.attribution._soft_quantile import soft_quantile
from sibx.attribution._vjp import VJP, vjp
from sibx.attribution.ablationcam import AblationCAM
from sibx.attribution.controls import ControlMap
from sibx.attribution.eigencam import EigenCAM
from sibx.attribution.gradcam import GradCAM
from sibx.attribution.gradcam_pp import GradCAMPlusPlus
from sibx.attribution.gradients import InputXGradient, Saliency, SmoothGrad, VarGrad
from sibx.attribution.heatmaps import to_heatmap
from sibx.attribution.hirescam import HiResCAM
from sibx.attribution.integrated import GradientSHAP, IntegratedGradients
from sibx.attribution.layercam import LayerCAM
from sibx.attribution.many import Explainers
from sibx.attribution.mask_rules import MASKS, DensityMask, HardDensityMask, MaskRule, PeakMask, TopP, TopShare
from sibx.attribution.method import Method, MethodSpec
from sibx.attribution.modules import DeepLift, GuidedBackprop, GuidedGradCAM
from sibx.attribution.occlusion import Occlusion
from sibx.attribution.rise import RISE
from sibx.attribution.safe import SafeAttribution
from sibx.attribution.scorecam import ScoreCAM
from sibx.attribution.sib import SIBAttribution
from sibx.attribution.xgradcam import XGradCAM

__all__ = [
    "MASKS",
    "METHODS",
    "RISE",
    "VJP",
    "AblationCAM",
    "ControlMap",
    "DeepLift",
    "DensityMask",
    "EigenCAM",
    "Explainers",
    "GradCAM",
    "GradCAMPlusPlus",
    "GradientSHAP",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HardDensityMask",
    "HiResCAM",
    "InputXGradient",
    "IntegratedGradients",
    "LayerCAM",
    "MaskRule",
    "Method",
    "MethodSpec",
    "Occlusion",
    "PeakMask",
    "SIBAttribution",
    "SafeAttribution",
    "Saliency",
    "ScoreCAM",
    "SmoothGrad",
    "TopP",
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
    "sib": MethodSpec("sib", "VJP-IB (R M)", lambda model, _: SIBAttribution(model), "Shu 2025, arXiv 2511.09239"),
    "vjp": MethodSpec(
        "vjp",
        "VJP (R = J_p^T p)",
        lambda model, _: SIBAttribution(model, cotangent="probability", output="vjp"),
        "Shu 2025, arXiv 2511.09239",
        uses_target=False,
    ),
    "saliency": MethodSpec("saliency", "Saliency", lambda model, _: Saliency(model), "Simonyan 2013, arXiv 1312.6034"),
    "input_x_gradient": MethodSpec(
        "input_x_gradient",
        "Input x Gradient",
        lambda model, _: InputXGradient(model),
        "Shrikumar 2016, arXiv 1605.01713",
        signed=True,
    ),
    "smoothgrad": MethodSpec(
        "smoothgrad", "SmoothGrad", lambda model, _: SmoothGrad(model), "Smilkov 2017, arXiv 1706.03825"
    ),
    "vargrad": MethodSpec("vargrad", "VarGrad", lambda model, _: VarGrad(model), "Adebayo 2018, arXiv 1810.03292"),
    "integrated_gradients": MethodSpec(
        "integrated_gradients",
        "Integrated Gradients",
        lambda model, _: IntegratedGradients(model),
        "Sundararajan 2017, arXiv 1703.01365",
        signed=True,
    ),
    "gradient_shap": MethodSpec(
        "gradient_shap",
        "GradientSHAP",
        lambda model, _: GradientSHAP(model),
        "Lundberg 2017, arXiv 1705.07874; Erion 2019, arXiv 1906.10670",
        signed=True,
    ),
    "guided_backprop": MethodSpec(
        "guided_backprop",
        "Guided Backprop",
        lambda model, _: GuidedBackprop(model),
        "Springenberg 2014, arXiv 1412.6806",
        needs_module=True,
    ),
    "guided_gradcam": MethodSpec(
        "guided_gradcam", "Guided Grad-CAM", GuidedGradCAM, "Selvaraju 2017, arXiv 1610.02391", needs_layer=True
    ),
    "deeplift": MethodSpec(
        "deeplift",
        "DeepLIFT",
        lambda model, _: DeepLift(model),
        "Shrikumar 2017, arXiv 1704.02685",
        needs_module=True,
        signed=True,
    ),
    "occlusion": MethodSpec(
        "occlusion", "Occlusion", lambda model, _: Occlusion(model), "Zeiler 2014, arXiv 1311.2901", signed=True
    ),
    "rise": MethodSpec("rise", "RISE", lambda model, _: RISE(model), "Petsiuk 2018, arXiv 1806.07421", signed=True),
    "gradcam": MethodSpec(
        "gradcam", "Grad-CAM", GradCAM, "Selvaraju 2017, arXiv 1610.02391", needs_layer=True, signed=True
    ),
    "gradcam_pp": MethodSpec(
        "gradcam_pp",
        "Grad-CAM++",
        GradCAMPlusPlus,
        "Chattopadhay 2018, arXiv 1710.11063",
        needs_layer=True,
        signed=True,
    ),
    "layercam": MethodSpec("layercam", "LayerCAM", LayerCAM, "Jiang 2021, IEEE TIP 30", needs_layer=True, signed=True),
    "hirescam": MethodSpec(
        "hirescam", "HiResCAM", HiResCAM, "Draelos 2020, arXiv 2011.08891", needs_layer=True, signed=True
    ),
    "xgradcam": MethodSpec(
        "xgradcam", "XGrad-CAM", XGradCAM, "Fu 2020, arXiv 2008.02312", needs_layer=True, signed=True
    ),
    "eigencam": MethodSpec(
        "eigencam",
        "Eigen-CAM",
        EigenCAM,
        "Muhammad 2020, arXiv 2008.00299",
        needs_layer=True,
        uses_target=False,
        signed=True,
    ),
    "scorecam": MethodSpec(
        "scorecam", "Score-CAM", ScoreCAM, "Wang 2020, arXiv 1910.01279", needs_layer=True, signed=True
    ),
    "ablationcam": MethodSpec(
        "ablationcam", "Ablation-CAM", AblationCAM, "Desai 2020, WACV", needs_layer=True, signed=True
    ),
    "control_abs_input": MethodSpec(
        "control_abs_input",
        "control: |x|",
        lambda *_: ControlMap(controls.abs_input),
        "model-free control",
        uses_target=False,
    ),
    "control_input_contrast": MethodSpec(
        "control_input_contrast",
        "control: |x - mean|",
        lambda *_: ControlMap(controls.input_contrast),
        "model-free control",
        uses_target=False,
    ),
    "control_edges": MethodSpec(
        "control_edges",
        "control: edges",
        lambda *_: ControlMap(controls.edges),
        "model-free control; Adebayo 2018, arXiv 1810.03292",
        uses_target=False,
    ),
    "control_center": MethodSpec(
        "control_center",
        "control: center",
        lambda *_: ControlMap(controls.center),
        "model-free control",
        uses_target=False,
    ),
    "control_random": MethodSpec(
        "control_random",
        "control: random",
        lambda *_: ControlMap(controls.random),
        "model-free control",
        uses_target=False,
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
    return {spec.name: maps for spec, maps in Explainers(model, specs, layer).explain(images, target)}
