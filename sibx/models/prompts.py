"""Classifiers from an image encoder and text: K prompts are K classes."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sibx._checks import describe, require
from sibx.models.scored import Scored


class PromptScores(nn.Module):
    """Scores of embeddings: ``scale * cosine(embedding, text_k) + bias`` for each of K text embeddings.

    ``Scored(encoder, PromptScores(texts))`` is a classifier, for any encoder of images.

    Args:
        texts: embeddings of the prompts, (K, D); the mean of several prompts' embeddings is one of a class, too.
        scale: factor of the cosine; probabilities depend on it, the predicted class does not.
        bias: what is added to every score.

    Raises:
        ValueError: texts that are not floating point (K, D), or, in the forward pass, embeddings that are not (B, D).

    Example:
        >>> head = PromptScores(torch.eye(2), scale=10.0)
        >>> head(torch.tensor([[3.0, 4.0]]))
        tensor([[6., 8.]])
    """

    texts: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, texts: Tensor, *, scale: float = 1.0, bias: float = 0.0):
        super().__init__()
        good = isinstance(texts, Tensor) and texts.ndim == 2 and texts.is_floating_point()
        require(good, "texts", "be floating-point embeddings of shape (K, D)", texts)
        self.register_buffer("texts", F.normalize(texts.detach().clone(), dim=1))
        self.register_buffer("scale", texts.new_tensor(scale))
        self.register_buffer("bias", texts.new_tensor(bias))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return scores (B, K) of embeddings (B, D)."""
        wanted = f"return embeddings of shape (B, {self.texts.shape[1]})"
        good = isinstance(embeddings, Tensor) and embeddings.ndim == 2 and embeddings.shape[1] == self.texts.shape[1]
        got = describe(embeddings) if isinstance(embeddings, Tensor) else f"a {type(embeddings).__name__}"
        if not good:
            raise ValueError(f"`model` must {wanted}, but got {got}.")
        return self.scale * F.normalize(embeddings, dim=1) @ self.texts.T + self.bias


class ImageTower(nn.Module):
    """The image encoder of a model of transformers that embeds images and text; its layers keep their names.

    Args:
        model: a model with a ``vision_model`` and perhaps a ``visual_projection``, as CLIP and SigLIP are.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.vision_model = model.get_submodule("vision_model")
        self.visual_projection = getattr(model, "visual_projection", None) or nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, D)."""
        embeddings: Tensor = self.visual_projection(self.vision_model(pixel_values=images).pooler_output)
        return embeddings


def zero_shot(model: nn.Module, tokens: Tensor | Mapping[str, Tensor]) -> Scored:
    """Return a classifier of images by text, with one class per prompt.

    The prompts are embedded once; the classifier holds the image encoder only. Its layers have the names that they have
    in that encoder: ``vision_model...`` in transformers, those of ``model.visual`` in open_clip. The scores are the
    model's own: its cosine similarities with its own scale (and, for SigLIP, its bias).

    Args:
        model: a model that embeds images and text: CLIP, SigLIP and the like of transformers, or of open_clip.
        tokens: K prompts as the model's tokenizer returns them: token numbers (K, L), or a mapping with ``input_ids``.

    Raises:
        ValueError: a model of another kind.

    Example:
        With transformers:

            model = CLIPModel.from_pretrained("openai/clip-vit-base-patch32")
            tokenizer = CLIPTokenizer.from_pretrained("openai/clip-vit-base-patch32")
            prompts = ["a photo of a cat", "a photo of a dog"]
            classifier = zero_shot(model, tokenizer(prompts, padding=True, return_tensors="pt"))
            heatmaps = explain(classifier.eval(), images, "gradcam", target=0)
    """
    encoder, texts = _parts(model, tokens)
    scale, bias = getattr(model, "logit_scale", None), getattr(model, "logit_bias", None)
    factor = 1.0 if scale is None else float(scale.detach().exp())
    return Scored(encoder, PromptScores(texts, scale=factor, bias=0.0 if bias is None else float(bias.detach())))


@torch.no_grad()
def _parts(model: Any, tokens: Tensor | Mapping[str, Tensor]) -> tuple[nn.Module, Tensor]:
    """Return the image encoder and the prompts' embeddings."""
    if hasattr(model, "encode_text") and hasattr(model, "visual"):  # open_clip
        visual: nn.Module = model.visual
        return visual, model.encode_text(tokens["input_ids"] if isinstance(tokens, Mapping) else tokens)
    known = hasattr(model, "get_text_features") and hasattr(model, "vision_model")  # transformers
    rule = "be a model of transformers or open_clip that embeds images and text (CLIP, SigLIP)"
    require(known, "model", rule, type(model).__name__)
    found = model.get_text_features(**tokens if isinstance(tokens, Mapping) else {"input_ids": tokens})
    texts: Tensor = found if isinstance(found, Tensor) else found.pooler_output  # transformers 4, 5
    return ImageTower(model), texts
