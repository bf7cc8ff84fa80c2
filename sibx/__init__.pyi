# The public names and their homes: the one table that the package, type checkers and editors read.

from .attribution import METHODS as METHODS
from .attribution import GradCAM as GradCAM
from .attribution import InputXGradient as InputXGradient
from .attribution import IntegratedGradients as IntegratedGradients
from .attribution import Saliency as Saliency
from .attribution import SIBAttribution as SIBAttribution
from .attribution import SmoothGrad as SmoothGrad
from .attribution import build_method as build_method
from .attribution import explain as explain
from .attribution import export_explained as export_explained
from .attribution import to_heatmap as to_heatmap
from .attribution import vjp as vjp
from .datasets import DATASETS as DATASETS
from .datasets import build_dataset as build_dataset
from .datasets import wrap as wrap
from .evaluation import Results as Results
from .evaluation import evaluate as evaluate
from .evaluation import evaluate_reliance as evaluate_reliance
from .evaluation import evaluate_robustness as evaluate_robustness
from .metrics import METRICS as METRICS
from .models import MODELS as MODELS
from .models import Scored as Scored
from .models import about as about
from .models import build_model as build_model
from .models import contrast as contrast
from .models import find_cam_layer as find_cam_layer
from .models import load_model as load_model
from .objectives import GuidanceConfig as GuidanceConfig
from .objectives import GuidanceLoss as GuidanceLoss
from .objectives import SIBConfig as SIBConfig
from .objectives import SIBLoss as SIBLoss
from .objectives import self_masks as self_masks
from .report import montage as montage
from .report import show as show
from .report import write_report as write_report
from .studies import Study as Study
from .studies import run_study as run_study
from .train import TRAININGS as TRAININGS
from .train import TrainConfig as TrainConfig
from .train import fine_tune as fine_tune
from .train import fine_tune_as as fine_tune_as

__version__: str
