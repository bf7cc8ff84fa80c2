"""The METHODS table.

To add a method: one file beside this one with a class, and one entry here.
"""

import torch

from sibx._checks import require
from sibx._plugins import Table
from sibx.attribution import controls
from sibx.attribution.ablationcam import AblationCAM
from sibx.attribution.attention_gradcam import AttentionGradCAM
from sibx.attribution.chefer import Chefer
from sibx.attribution.controls import ControlMap
from sibx.attribution.eigencam import EigenCAM
from sibx.attribution.eigengradcam import EigenGradCAM
from sibx.attribution.fullgrad import FullGrad
from sibx.attribution.gradcam import GradCAM
from sibx.attribution.gradcam_pp import GradCAMPlusPlus
from sibx.attribution.gradients import InputXGradient, Saliency, SmoothGrad, SmoothGradSquared, VarGrad
from sibx.attribution.hirescam import HiResCAM
from sibx.attribution.hsic_maps import HSICAttribution
from sibx.attribution.iba import IBA
from sibx.attribution.integrated import GradientSHAP, IntegratedGradients
from sibx.attribution.layercam import LayerCAM
from sibx.attribution.legrad import LeGrad
from sibx.attribution.low_pass import LowPassGradient
from sibx.attribution.lrp import LRP
from sibx.attribution.method import MethodSpec
from sibx.attribution.modules import DeepLift, GuidedBackprop, GuidedGradCAM
from sibx.attribution.occlusion import Occlusion
from sibx.attribution.path_gradients import IDGI, BlurIG, blurred
from sibx.attribution.raw_attention import RawAttention
from sibx.attribution.removals import FeatureAblation, ShapleySampling
from sibx.attribution.rise import RISE
from sibx.attribution.rollout import Rollout
from sibx.attribution.scorecam import ScoreCAM
from sibx.attribution.shapleycam import ShapleyCAM
from sibx.attribution.sib import SIBAttribution
from sibx.attribution.surrogates import LIME, KernelSHAP
from sibx.attribution.xgradcam import XGradCAM
from sibx.attribution.xrai import XRAI, random_regions


def _read(found: object, name: str) -> MethodSpec:
    from sibx.attribution.own_methods import to_method  # which looks into this table

    require(not isinstance(found, str), name, "be a method, not a name", found)
    return to_method(found, name, argument=name)


METHODS: Table[MethodSpec] = Table(
    "sibx.methods",
    (
        MethodSpec(
            name="sib",
            title="VJP-IB (R M)",
            build=lambda model, _: SIBAttribution(model),
            reference="Shu 2025, arXiv 2511.09239",
            kind="gradient",
        ),
        MethodSpec(
            name="vjp",
            title="VJP (R = J_p^T p)",
            build=lambda model, _: SIBAttribution(model, cotangent="probability", output="vjp"),
            reference="Shu 2025, arXiv 2511.09239",
            kind="gradient",
            uses_target=False,
        ),
        MethodSpec(
            name="saliency",
            title="Saliency",
            build=lambda model, _: Saliency(model),
            reference="Simonyan 2013, arXiv 1312.6034",
            kind="gradient",
        ),
        MethodSpec(
            name="input_x_gradient",
            title="Input x Gradient",
            build=lambda model, _: InputXGradient(model),
            reference="Shrikumar 2016, arXiv 1605.01713",
            kind="gradient",
            signed=True,
        ),
        MethodSpec(
            name="smoothgrad",
            title="SmoothGrad",
            build=lambda model, _: SmoothGrad(model),
            reference="Smilkov 2017, arXiv 1706.03825",
            kind="gradient",
        ),
        MethodSpec(
            name="smoothgrad_sq",
            title="SmoothGrad squared",
            build=lambda model, _: SmoothGradSquared(model),
            reference="Hooker 2019, arXiv 1806.10758",
            kind="gradient",
        ),
        MethodSpec(
            name="low_pass_gradient",
            title="Low-pass gradient (FORGrad)",
            build=lambda model, _: LowPassGradient(model),
            reference="Muzellec 2023, arXiv 2307.09591",
            kind="gradient",
        ),
        MethodSpec(
            name="vargrad",
            title="VarGrad",
            build=lambda model, _: VarGrad(model),
            reference="Adebayo 2018, arXiv 1810.03292",
            kind="gradient",
        ),
        MethodSpec(
            name="integrated_gradients",
            title="Integrated Gradients",
            build=lambda model, _: IntegratedGradients(model),
            reference="Sundararajan 2017, arXiv 1703.01365",
            kind="gradient",
            signed=True,
            baseline=torch.zeros_like,
        ),
        MethodSpec(
            name="idgi",
            title="IDGI",
            build=lambda model, _: IDGI(model),
            reference="Yang 2023, arXiv 2303.14242",
            kind="gradient",
            signed=True,
            baseline=torch.zeros_like,
        ),
        MethodSpec(
            name="blur_ig",
            title="BlurIG",
            build=lambda model, _: BlurIG(model),
            reference="Xu 2020, arXiv 2004.03383",
            kind="gradient",
            signed=True,
            baseline=blurred,
        ),
        MethodSpec(
            name="gradient_shap",
            title="GradientSHAP",
            build=lambda model, _: GradientSHAP(model),
            reference="Lundberg 2017, arXiv 1705.07874; Erion 2019, arXiv 1906.10670",
            kind="gradient",
            signed=True,
        ),
        MethodSpec(
            name="xrai",
            title="XRAI",
            build=lambda model, _: XRAI(model),
            reference="Kapishnikov 2019, arXiv 1906.02825",
            kind="gradient",
            signed=True,
        ),
        MethodSpec(
            name="fullgrad",
            title="FullGrad",
            build=lambda model, _: FullGrad(model),
            reference="Srinivas 2019, arXiv 1905.00780",
            kind="gradient",
            needs_module=True,
            signed=True,
        ),
        MethodSpec(
            name="guided_backprop",
            title="Guided Backprop",
            build=lambda model, _: GuidedBackprop(model),
            reference="Springenberg 2014, arXiv 1412.6806",
            kind="gradient",
            needs_module=True,
        ),
        MethodSpec(
            name="guided_gradcam",
            title="Guided Grad-CAM",
            build=GuidedGradCAM,
            reference="Selvaraju 2017, arXiv 1610.02391",
            kind="gradient",
            needs_layer=True,
        ),
        MethodSpec(
            name="deeplift",
            title="DeepLIFT",
            build=lambda model, _: DeepLift(model),
            reference="Shrikumar 2017, arXiv 1704.02685",
            kind="gradient",
            needs_module=True,
            signed=True,
            baseline=torch.zeros_like,
        ),
        MethodSpec(
            name="lrp",
            title="LRP (EpsilonPlusFlat)",
            build=lambda model, _: LRP(model),
            reference="Bach 2015; Kohlbrenner 2020, arXiv 1910.09840",
            kind="gradient",
            needs_module=True,
            signed=True,
        ),
        MethodSpec(
            name="occlusion",
            title="Occlusion",
            build=lambda model, _: Occlusion(model),
            reference="Zeiler 2014, arXiv 1311.2901",
            kind="perturbation",
            signed=True,
        ),
        MethodSpec(
            name="rise",
            title="RISE",
            build=lambda model, _: RISE(model),
            reference="Petsiuk 2018, arXiv 1806.07421",
            kind="perturbation",
            signed=True,
        ),
        MethodSpec(
            name="hsic",
            title="HSIC",
            build=lambda model, _: HSICAttribution(model),
            reference="Novello 2022, arXiv 2206.06219",
            kind="perturbation",
            signed=True,
        ),
        MethodSpec(
            name="lime",
            title="LIME",
            build=lambda model, _: LIME(model),
            reference="Ribeiro 2016, arXiv 1602.04938",
            kind="perturbation",
            signed=True,
        ),
        MethodSpec(
            name="kernel_shap",
            title="Kernel SHAP",
            build=lambda model, _: KernelSHAP(model),
            reference="Lundberg 2017, arXiv 1705.07874",
            kind="perturbation",
            signed=True,
        ),
        MethodSpec(
            name="feature_ablation",
            title="Feature Ablation",
            build=lambda model, _: FeatureAblation(model),
            reference="Kokhlikyan 2020, arXiv 2009.07896",
            kind="perturbation",
            signed=True,
        ),
        MethodSpec(
            name="shapley_sampling",
            title="Shapley Sampling",
            build=lambda model, _: ShapleySampling(model),
            reference="Castro 2009",
            kind="perturbation",
            signed=True,
        ),
        MethodSpec(
            name="gradcam",
            title="Grad-CAM",
            build=GradCAM,
            reference="Selvaraju 2017, arXiv 1610.02391",
            kind="cam",
            needs_layer=True,
            signed=True,
        ),
        MethodSpec(
            name="gradcam_pp",
            title="Grad-CAM++",
            build=GradCAMPlusPlus,
            reference="Chattopadhay 2018, arXiv 1710.11063",
            kind="cam",
            needs_layer=True,
            signed=True,
        ),
        MethodSpec(
            name="layercam",
            title="LayerCAM",
            build=LayerCAM,
            reference="Jiang 2021, IEEE TIP 30",
            kind="cam",
            needs_layer=True,
            signed=True,
        ),
        MethodSpec(
            name="hirescam",
            title="HiResCAM",
            build=HiResCAM,
            reference="Draelos 2020, arXiv 2011.08891",
            kind="cam",
            needs_layer=True,
            signed=True,
        ),
        MethodSpec(
            name="xgradcam",
            title="XGrad-CAM",
            build=XGradCAM,
            reference="Fu 2020, arXiv 2008.02312",
            kind="cam",
            needs_layer=True,
            signed=True,
        ),
        MethodSpec(
            name="eigencam",
            title="Eigen-CAM",
            build=EigenCAM,
            reference="Muhammad 2020, arXiv 2008.00299",
            kind="cam",
            needs_layer=True,
            uses_target=False,
            signed=True,
        ),
        MethodSpec(
            name="eigengradcam",
            title="EigenGradCAM",
            build=EigenGradCAM,
            reference="Gildenblat 2021, pytorch-grad-cam; Muhammad 2020, arXiv 2008.00299",
            kind="cam",
            needs_layer=True,
            signed=True,
        ),
        MethodSpec(
            name="shapleycam",
            title="ShapleyCAM",
            build=lambda model, layer: ShapleyCAM(model, layer),
            reference="Cai 2025, arXiv 2501.06261",
            kind="cam",
            needs_layer=True,
            signed=True,
        ),
        MethodSpec(
            name="scorecam",
            title="Score-CAM",
            build=ScoreCAM,
            reference="Wang 2020, arXiv 1910.01279",
            kind="cam",
            needs_layer=True,
            signed=True,
        ),
        MethodSpec(
            name="ablationcam",
            title="Ablation-CAM",
            build=AblationCAM,
            reference="Desai 2020, WACV",
            kind="cam",
            needs_layer=True,
            signed=True,
        ),
        MethodSpec(
            name="raw_attention",
            title="Raw attention",
            build=lambda model, _: RawAttention(model),
            reference="baseline in arXiv 2012.09838",
            kind="attention",
            needs_module=True,
            uses_target=False,
            signed=True,
        ),
        MethodSpec(
            name="rollout",
            title="Attention rollout",
            build=lambda model, _: Rollout(model),
            reference="Abnar 2020, arXiv 2005.00928",
            kind="attention",
            needs_module=True,
            uses_target=False,
            signed=True,
        ),
        MethodSpec(
            name="attention_gradcam",
            title="Attention Grad-CAM",
            build=lambda model, _: AttentionGradCAM(model),
            reference="baseline in arXiv 2012.09838",
            kind="attention",
            needs_module=True,
            signed=True,
        ),
        MethodSpec(
            name="chefer",
            title="Chefer",
            build=lambda model, _: Chefer(model),
            reference="Chefer 2021, arXiv 2103.15679",
            kind="attention",
            needs_module=True,
            signed=True,
        ),
        MethodSpec(
            name="legrad",
            title="LeGrad",
            build=lambda model, _: LeGrad(model),
            reference="Bousselham 2025, arXiv 2404.03214",
            kind="attention",
            needs_module=True,
            signed=True,
        ),
        MethodSpec(
            name="iba",
            title="IBA (per sample)",
            build=IBA,
            reference="Schulz 2020, arXiv 2001.00396",
            kind="cam",
            needs_layer=True,
            needs_fit=True,
            signed=True,
        ),
        MethodSpec(
            name="control_abs_input",
            title="control: |x|",
            build=lambda *_: ControlMap(controls.abs_input),
            reference="model-free control",
            kind="control",
            uses_target=False,
        ),
        MethodSpec(
            name="control_input_contrast",
            title="control: |x - mean|",
            build=lambda *_: ControlMap(controls.input_contrast),
            reference="model-free control",
            kind="control",
            uses_target=False,
        ),
        MethodSpec(
            name="control_edges",
            title="control: edges",
            build=lambda *_: ControlMap(controls.edges),
            reference="model-free control; Adebayo 2018, arXiv 1810.03292",
            kind="control",
            uses_target=False,
        ),
        MethodSpec(
            name="control_center",
            title="control: center",
            build=lambda *_: ControlMap(controls.center),
            reference="model-free control",
            kind="control",
            uses_target=False,
        ),
        MethodSpec(
            name="control_regions",
            title="control: regions",
            build=lambda *_: ControlMap(random_regions),
            reference="model-free control for XRAI",
            kind="control",
            uses_target=False,
        ),
        MethodSpec(
            name="control_random",
            title="control: random",
            build=lambda *_: ControlMap(controls.random),
            reference="model-free control",
            kind="control",
            uses_target=False,
        ),
    ),
    _read,
)


def is_control(method: str) -> bool:
    """Whether a method of this name is a control map, which never looks at the model."""
    return method in METHODS and METHODS[method].kind == "control"
