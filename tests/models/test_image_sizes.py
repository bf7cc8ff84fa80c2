"""Networks that take images of one size: what is said of others, and how a picture of any size is explained."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from sibx import SIBConfig, SIBLoss, evaluate, explain
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.images import IMAGENET, fit_picture
from sibx.models import TinyCNN
from sibx.models.failures import say_why

NAMED = r"`(images|inputs)` must be 32 x 32 pixels, as the model takes them \(fit_picture .*, but got .*48"


def vision_transformer():
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 16}
    return VisionTransformer(**sizes, num_classes=8)


def of_timm():
    timm = pytest.importorskip("timm")
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_classes=8)


def of_hugging_face():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(image_size=32, patch_size=8, num_labels=8, **sizes)
    )


@pytest.fixture(params=[vision_transformer, of_timm, of_hugging_face])
def network(request):
    torch.manual_seed(0)
    network = request.param().eval()
    return network if request.param is not of_hugging_face else nn.Sequential(network, _Logits())


class _Logits(nn.Module):
    def forward(self, output):
        return output.logits


def test_the_error_names_the_size(network):
    images = torch.randn(2, 3, 48, 64)
    for method in ("saliency", "sib", "gradcam"):
        for target in (None, 1):
            with pytest.raises(ValueError, match=NAMED) as caught:
                explain(network, images, method, target)
            assert caught.value.__cause__ is not None
    data = InMemoryDataset.load(SyntheticDataset("train", 48, size=4))
    with pytest.raises(ValueError, match=NAMED):
        evaluate(network, data, methods=["saliency"], metrics=["sparseness"], progress=False)


def test_a_picture_of_any_size():
    network, picture = vision_transformer().eval(), torch.rand(3, 60, 120)
    seen = fit_picture(picture, 32, "pad")
    maps = seen.back(explain(network, IMAGENET(seen.pixels)[None], "saliency"))
    assert maps.shape == (1, 1, 60, 120)


def test_in_training():
    images, masks = torch.randn(2, 3, 48, 48), torch.ones(2, 1, 48, 48, dtype=torch.bool)
    for layers in ("auto", {"input": 1.0}):
        loss = SIBLoss(SIBConfig.recommended("given", layers=layers))
        with pytest.raises(ValueError, match=NAMED):
            loss(vision_transformer(), images, torch.tensor([0, 1]), masks)


class _Broken(nn.Module):
    """Fails whatever its images are, though it names a size."""

    image_size = 32

    def forward(self, images):
        raise RuntimeError("broken")


def test_other_failures_stay_what_they_are():
    with pytest.raises(RuntimeError, match="broken"), say_why(_Broken(), torch.randn(1, 3, 48, 48)):
        _Broken()(torch.randn(1, 3, 48, 48))
    with pytest.raises(KeyError), say_why(TinyCNN(4), torch.randn(1, 3, 48, 48)):
        raise KeyError("names no size")


def test_a_failure_on_images_that_the_model_takes_is_not_one_of_their_size():
    """A network that names a size and takes others: what fails is something else, and is said."""
    model = TinyCNN(8)
    model.config = SimpleNamespace(image_size=64)
    with pytest.raises(RuntimeError, match="contributions"), say_why(model, torch.randn(1, 3, 32, 32)):
        raise RuntimeError("the contributions do not add up")
