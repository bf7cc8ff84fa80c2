"""Models of transformers and open_clip, tiny and with random weights: classifiers, and zero-shot classifiers."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sibx import SIBConfig, SIBLoss, build_model, evaluate, explain
from sibx.attribution import GradCAM, Saliency, SIBAttribution
from sibx.datasets import InMemoryDataset, SyntheticDataset
from sibx.models import PromptScores, Scored, unwrap, zero_shot

TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TINY | {"image_size": 32, "patch_size": 8}
TEXT = TINY | {"vocab_size": 50, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
TOKENS = torch.randint(3, 50, (3, 7), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="needs the extra hf")


@pytest.fixture
def folder(transformers, tmp_path):
    """A folder as ``save_pretrained`` writes it: a tiny ViT of 4 classes."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(**VISION, num_labels=4)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    return str(tmp_path / "vit")


@pytest.fixture
def inner(transformers, folder):
    return transformers.ViTForImageClassification.from_pretrained(folder).eval()


def last_norm(model):
    """The name of the normalization before the last attention, which differs between versions of transformers."""
    return [name for name, _ in unwrap(model).named_modules() if name.endswith("layernorm_before")][-1]


class TestClassifier:
    def test_own_weights(self, folder, inner, images):
        model = build_model(f"hf/{folder}", 4, "default")
        assert model.training
        assert torch.equal(model.eval()(images), inner(images).logits)
        assert type(unwrap(model)) is type(inner)

    def test_random_weights(self, folder, inner, images):
        model = build_model(f"hf/{folder}", 7).eval()
        assert model(images).shape == (4, 7)
        assert not torch.equal(unwrap(model).classifier.weight[:4], inner.classifier.weight)

    def test_configuration_on_its_own(self, transformers, tmp_path, images):
        """It does not say which of DeiT's two classifiers it is for: the one without a teacher."""
        transformers.DeiTConfig(**VISION).save_pretrained(tmp_path)
        model = build_model(f"hf/{tmp_path}", 7).eval()
        assert model(images).shape == (4, 7)
        assert type(unwrap(model)).__name__ == "DeiTForImageClassification"

    @pytest.mark.parametrize("classes", [4, 6])
    @pytest.mark.parametrize("source", ["default", "file"])
    def test_another_number_of_classes(self, source, classes, folder, inner, images, tmp_path):
        torch.save(inner.state_dict(), tmp_path / "w.pt")
        weights = "default" if source == "default" else str(tmp_path / "w.pt")
        model = unwrap(build_model(f"hf/{folder}", classes, weights))
        ours, theirs = model.state_dict(), inner.state_dict()
        assert ours["classifier.weight"].shape[0] == classes
        assert all(torch.equal(ours[k], theirs[k]) for k in ours if "classifier" not in k)
        assert torch.equal(ours["classifier.weight"], theirs["classifier.weight"]) == (classes == 4) or classes == 6

    def test_files_that_do_not_fit(self, folder, tmp_path):
        torch.save({"x": torch.zeros(1)}, tmp_path / "w.pt")
        with pytest.raises(ValueError, match="`weights` must hold a state dict of hf/"):
            build_model(f"hf/{folder}", 4, str(tmp_path / "w.pt"))
        with pytest.raises(ValueError, match="`weights` must be 'default' or the path of a state dict"):
            build_model(f"hf/{folder}", 4, str(tmp_path / "none.pt"))

    def test_maps_are_the_models(self, folder, inner, images):
        model = build_model(f"hf/{folder}", 4, "default").eval()
        layer = last_norm(model)
        ours = GradCAM(model, layer).attribute(images, target=1)
        by_hand = GradCAM(lambda x: inner(x).logits, inner.get_submodule(layer)).attribute(images, target=1)
        assert torch.equal(ours, by_hand)
        assert ours.max() > 0
        assert torch.equal(
            Saliency(model).attribute(images, 1), Saliency(lambda x: inner(x).logits).attribute(images, 1)
        )

    def test_second_derivatives(self, folder, images):
        """The fused kernels of attention have none."""
        model = build_model(f"hf/{folder}", 4, "default").eval()
        for options in ({}, {"layer": last_norm(model), "align": "half_pixel"}):
            found = SIBAttribution(model, create_graph=True, **options).attribute(images, target=1)
            model.zero_grad()
            found.square().sum().backward()
            assert unwrap(model).classifier.weight.grad.abs().max() > 0

    def test_s_ib_and_evaluation(self, folder):
        data = InMemoryDataset.load(SyntheticDataset("val", 32, size=4))
        model = build_model(f"hf/{folder}", 8).eval()
        images, masks = (torch.stack([getattr(s, n) for s in data]) for n in ("image", "mask"))
        labels = torch.tensor([s.label for s in data])
        terms = SIBLoss(SIBConfig.recommended("given", {last_norm(model): 1.0}))(model, images, labels, masks)
        terms.total.backward()
        assert unwrap(model).classifier.weight.grad.abs().max() > 0
        found = evaluate(model, data, methods=["saliency"], metrics=["foreground_focus"], progress=False)
        assert found.rows["value"].notna().all()

    def test_is_optional(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(ImportError, match=r"pip install 'sibx\[hf\]'"):
            build_model("hf/some/model", 3)


def clip(transformers):
    options = {"text_config": TEXT | {"projection_dim": 12}, "vision_config": VISION | {"projection_dim": 12}}
    return transformers.CLIPModel(transformers.CLIPConfig(**options, projection_dim=12))


def siglip(transformers):
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT, vision_config=VISION))
    nn.init.constant_(model.logit_scale, 1.5)
    nn.init.constant_(model.logit_bias, -3.0)
    return model


class TestZeroShot:
    @pytest.mark.parametrize("build", [clip, siglip])
    @pytest.mark.parametrize("as_mapping", [False, True])
    def test_scores_of_transformers(self, build, as_mapping, transformers, images):
        torch.manual_seed(0)
        model = build(transformers).eval()
        with torch.no_grad():
            expected = model(input_ids=TOKENS, pixel_values=images).logits_per_image
        classifier = zero_shot(model, {"input_ids": TOKENS} if as_mapping else TOKENS).eval()
        assert torch.allclose(classifier(images), expected, atol=1e-5)
        assert last_named(classifier, "layer_norm1").startswith("vision_model.")

    @pytest.mark.parametrize("bias", [None, -2.0])
    def test_scores_of_open_clip(self, bias, images):
        model = tiny_open_clip(bias)
        with torch.no_grad():
            expected = model(images, TOKENS)
        cosine = expected[0] @ expected[1].T
        classifier = zero_shot(model, TOKENS).eval()
        assert torch.allclose(classifier(images), model.logit_scale.exp() * cosine + (bias or 0), atol=1e-5)
        assert unwrap(classifier) is model.visual
        found = GradCAM(classifier, "transformer.resblocks.1.ln_1", align="half_pixel").attribute(images, target=2)
        assert found.shape == (4, 1, 32, 32)

    def test_everything_runs_over_it(self, transformers, images):
        torch.manual_seed(0)
        classifier = zero_shot(clip(transformers).eval(), TOKENS)
        layer = last_named(classifier, "layer_norm1")
        for method in ("sib", "saliency", "gradcam"):
            heatmaps = explain(classifier, images, method, layer=layer)
            assert heatmaps.shape == (4, 1, 32, 32)
            assert heatmaps.amax((1, 2, 3)).min() > 0
        prompts = zero_shot(clip(transformers).eval(), TOKENS.repeat(3, 1)[:8])
        data = InMemoryDataset.load(SyntheticDataset("val", 32, size=4))
        found = evaluate(prompts, data, methods=["saliency"], metrics=["deletion"], progress=False)
        assert found.rows["value"].notna().all()

    def test_half_precision(self, transformers, images):
        classifier = zero_shot(clip(transformers).eval(), TOKENS).bfloat16()
        assert classifier(images.bfloat16()).dtype == torch.bfloat16

    def test_other_models(self, model):
        with pytest.raises(ValueError, match=r"`model` must be a model of transformers or open_clip .*'TinyCNN'"):
            zero_shot(model, TOKENS)


def last_named(model, ending):
    return [name for name, _ in unwrap(model).named_modules() if name.endswith(ending)][-1]


def tiny_open_clip(bias):
    open_clip = pytest.importorskip("open_clip", reason="needs the extra hf")
    torch.manual_seed(0)
    vision = {"layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 32}
    text = {"context_length": 7, "vocab_size": 50, "width": 16, "heads": 2, "layers": 2}
    return open_clip.CLIP(embed_dim=12, vision_cfg=vision, text_cfg=text, init_logit_bias=bias).eval()


class TestPromptScores:
    def test_are_scaled_cosines(self):
        texts, embeddings = torch.randn(3, 6), torch.randn(4, 6)
        found = PromptScores(texts, scale=5.0, bias=-1.0)(embeddings)
        expected = 5 * F.cosine_similarity(embeddings[:, None], texts[None], dim=2) - 1
        assert torch.allclose(found, expected, atol=1e-6)

    def test_with_any_encoder(self, model, images):
        encoder = nn.Sequential(model.features, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        classifier = Scored(encoder, PromptScores(torch.randn(3, 32)))
        assert explain(classifier, images, "gradcam", 0, layer="0").shape == (4, 1, 32, 32)
        assert "scores.texts" in classifier.state_dict()

    def test_errors(self, model, images):
        for texts in (torch.randn(3), torch.ones(3, 4, dtype=torch.int64)):
            with pytest.raises(ValueError, match=r"`texts` must be floating-point embeddings of shape \(K, D\)"):
                PromptScores(texts)
        with pytest.raises(ValueError, match=r"`model` must return embeddings of shape \(B, 7\), but got a float32"):
            Scored(model, PromptScores(torch.randn(3, 7)))(images)
        with pytest.raises(ValueError, match=r"`model` must return embeddings of shape \(B, 7\), but got a dict"):
            Scored(lambda _: {}, PromptScores(torch.randn(3, 7)))(images)
