"""Captum-compatible attribution: the METHODS table, ``explain``, ``build_method`` and ``explain_many``."""

from sibx.attribution._object_shapley import ObjectShapley, object_shapley
from sibx.attribution._soft_quantile import soft_quantile
from sibx.attribution._vjp import VJP, vjp
from sibx.attribution.ablationcam import AblationCAM
from sibx.attribution.attention import Attention, record_attention
from sibx.attribution.attention_gradcam import AttentionGradCAM
from sibx.attribution.chefer import Chefer
from sibx.attribution.chosen import Methods, resolve_methods
from sibx.attribution.controls import ControlMap
from sibx.attribution.eigencam import EigenCAM
from sibx.attribution.eigengradcam import EigenGradCAM
from sibx.attribution.explaining import explain, explain_many
from sibx.attribution.exported import export_explained
from sibx.attribution.fullgrad import FullGrad
from sibx.attribution.gradcam import GradCAM
from sibx.attribution.gradcam_pp import GradCAMPlusPlus
from sibx.attribution.gradients import InputXGradient, Saliency, SmoothGrad, SmoothGradSquared, VarGrad
from sibx.attribution.heatmaps import to_heatmap
from sibx.attribution.hirescam import HiResCAM
from sibx.attribution.hsic_maps import HSICAttribution
from sibx.attribution.iba import IBA
from sibx.attribution.integrated import GradientSHAP, IntegratedGradients
from sibx.attribution.layer_statistics import LayerStatistics
from sibx.attribution.layercam import LayerCAM
from sibx.attribution.legrad import LeGrad
from sibx.attribution.low_pass import LowPassGradient
from sibx.attribution.lrp import LRP
from sibx.attribution.many import Explainers
from sibx.attribution.mask_rules import MASKS, DensityMask, HardDensityMask, MaskRule, PeakMask, TopP, TopShare
from sibx.attribution.method import Method, MethodSpec
from sibx.attribution.methods import METHODS, is_control
from sibx.attribution.modules import DeepLift, GuidedBackprop, GuidedGradCAM
from sibx.attribution.occlusion import Occlusion
from sibx.attribution.own_methods import build_method, to_method
from sibx.attribution.path_gradients import IDGI, BlurIG
from sibx.attribution.raw_attention import RawAttention
from sibx.attribution.removals import FeatureAblation, ShapleySampling
from sibx.attribution.rise import RISE
from sibx.attribution.rollout import Rollout
from sibx.attribution.safe import SafeAttribution
from sibx.attribution.scorecam import ScoreCAM
from sibx.attribution.shapleycam import ShapleyCAM
from sibx.attribution.sib import SIBAttribution
from sibx.attribution.surrogates import LIME, KernelSHAP
from sibx.attribution.xgradcam import XGradCAM
from sibx.attribution.xrai import XRAI

__all__ = [
    "IBA",
    "IDGI",
    "LIME",
    "LRP",
    "MASKS",
    "METHODS",
    "RISE",
    "VJP",
    "XRAI",
    "AblationCAM",
    "Attention",
    "AttentionGradCAM",
    "BlurIG",
    "Chefer",
    "ControlMap",
    "DeepLift",
    "DensityMask",
    "EigenCAM",
    "EigenGradCAM",
    "Explainers",
    "FeatureAblation",
    "FullGrad",
    "GradCAM",
    "GradCAMPlusPlus",
    "GradientSHAP",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HSICAttribution",
    "HardDensityMask",
    "HiResCAM",
    "InputXGradient",
    "IntegratedGradients",
    "KernelSHAP",
    "LayerCAM",
    "LayerStatistics",
    "LeGrad",
    "LowPassGradient",
    "MaskRule",
    "Method",
    "MethodSpec",
    "Methods",
    "ObjectShapley",
    "Occlusion",
    "PeakMask",
    "RawAttention",
    "Rollout",
    "SIBAttribution",
    "SafeAttribution",
    "Saliency",
    "ScoreCAM",
    "ShapleyCAM",
    "ShapleySampling",
    "SmoothGrad",
    "SmoothGradSquared",
    "TopP",
    "TopShare",
    "VarGrad",
    "XGradCAM",
    "build_method",
    "explain",
    "explain_many",
    "export_explained",
    "is_control",
    "object_shapley",
    "record_attention",
    "resolve_methods",
    "soft_quantile",
    "to_heatmap",
    "to_method",
    "vjp",
]
