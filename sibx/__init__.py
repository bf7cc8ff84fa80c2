"""sibx: explain image classifiers, measure the explanations, and fine-tune the classifier to look at the object.

Public names are loaded on first use: ``import sibx`` itself loads nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sibx.attribution import METHODS as METHODS
    from sibx.attribution import GradCAM as GradCAM
    from sibx.attribution import InputXGradient as InputXGradient
    from sibx.attribution import IntegratedGradients as IntegratedGradients
    from sibx.attribution import Saliency as Saliency
    from sibx.attribution import SIBAttribution as SIBAttribution
    from sibx.attribution import SmoothGrad as SmoothGrad
    from sibx.attribution import build_method as build_method
    from sibx.attribution import explain as explain
    from sibx.attribution import to_heatmap as to_heatmap
    from sibx.attribution import vjp as vjp
    from sibx.datasets import DATASETS as DATASETS
    from sibx.datasets import build_dataset as build_dataset
    from sibx.evaluation import Results as Results
    from sibx.evaluation import evaluate as evaluate
    from sibx.evaluation import evaluate_reliance as evaluate_reliance
    from sibx.evaluation import evaluate_robustness as evaluate_robustness
    from sibx.metrics import METRICS as METRICS
    from sibx.models import MODELS as MODELS
    from sibx.models import build_model as build_model
    from sibx.models import find_cam_layer as find_cam_layer
    from sibx.objectives import GuidanceConfig as GuidanceConfig
    from sibx.objectives import GuidanceLoss as GuidanceLoss
    from sibx.objectives import SIBConfig as SIBConfig
    from sibx.objectives import SIBLoss as SIBLoss
    from sibx.objectives import self_masks as self_masks
    from sibx.report import montage as montage
    from sibx.report import write_report as write_report
    from sibx.train import TrainConfig as TrainConfig
    from sibx.train import fine_tune as fine_tune

_HOME = {
    "METHODS": "attribution",
    "GradCAM": "attribution",
    "InputXGradient": "attribution",
    "IntegratedGradients": "attribution",
    "SIBAttribution": "attribution",
    "Saliency": "attribution",
    "SmoothGrad": "attribution",
    "build_method": "attribution",
    "explain": "attribution",
    "to_heatmap": "attribution",
    "vjp": "attribution",
    "DATASETS": "datasets",
    "build_dataset": "datasets",
    "Results": "evaluation",
    "evaluate": "evaluation",
    "evaluate_reliance": "evaluation",
    "evaluate_robustness": "evaluation",
    "METRICS": "metrics",
    "MODELS": "models",
    "build_model": "models",
    "find_cam_layer": "models",
    "montage": "report",
    "write_report": "report",
    "GuidanceConfig": "objectives",
    "GuidanceLoss": "objectives",
    "SIBConfig": "objectives",
    "SIBLoss": "objectives",
    "TrainConfig": "train",
    "fine_tune": "train",
    "self_masks": "objectives",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sibx' has no attribute {name!r}")
    value = getattr(import_module(f"sibx.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
