"""Images of any number of channels and of any proportions, from training to the report."""

import numpy as np
import pytest
import torch
from PIL import Image

from sibx import (
    SIBConfig,
    TrainConfig,
    build_dataset,
    build_model,
    evaluate,
    evaluate_reliance,
    evaluate_robustness,
    explain,
    fine_tune,
    montage,
    wrap,
    write_report,
)
from sibx.datasets import CompositeDataset
from sibx.evaluation import Results
from sibx.images import BACKGROUNDS, Normalization, augment, corrupt
from sibx.images.backgrounds import inpaint
from sibx.images.pixels import as_colors
from sibx.models.channels import take_channels
from sibx.report import make_gallery

SIZES = [(24, 40), (40, 24)]
METRICS = ["foreground_focus", "deletion", "road", "irof", "infidelity"]


def data_of(channels, size=(24, 40), count=8):
    """Squares in the left or in the right half, brighter than the noise around them."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for index in range(count):
        image, mask = torch.rand(channels, *size, generator=generator) / 2, torch.zeros(*size, dtype=torch.bool)
        left = 2 + (index % 2) * size[1] // 2
        mask[4:14, left : left + 8] = True
        items.append((image + mask * 0.5, index % 2, mask))
    normalization = Normalization((0.4,) * channels, (0.25,) * channels)
    return wrap(items, mask=2, classes=["left", "right"], normalization=normalization)


def model_of(channels):
    torch.manual_seed(0)
    return build_model("tiny_cnn", 2, channels=channels).eval()


@pytest.mark.parametrize("channels", [1, 2, 5])
class TestChannels:
    @pytest.mark.parametrize("objective", ["given", "self"])
    def test_fine_tuning(self, channels, objective):
        config = TrainConfig(
            objective=SIBConfig.recommended(objective), epochs=1, batch_size=4, augmentation="flip_crop"
        )
        history = fine_tune(model_of(channels), data_of(channels), config=config, progress=False).history
        assert np.isfinite(history[0]["total"])

    def test_evaluation_reliance_robustness_and_report(self, channels, tmp_path):
        data, model = data_of(channels, count=6), model_of(channels)
        methods = ["sib", "gradcam", "control_edges"]
        scores = evaluate(model, data, methods=methods, metrics=METRICS, target="label", progress=False)
        assert scores.rows["value"].notna().mean() > 0.9
        reliance = evaluate_reliance(model, data, progress=False)
        assert set(BACKGROUNDS) <= set(reliance.rows["metric"])
        # An object is pasted on another background wherever both have room.
        assert reliance.where(metric="mixed_same").rows["value"].notna().all()
        robustness = evaluate_robustness(model, data, severities=[1], steps=2, progress=False)
        assert robustness.rows["value"].notna().all()
        gallery = make_gallery({"ce": model}, data, methods=["gradcam"], images=2)
        page = write_report(Results.concat([scores, reliance]), tmp_path, gallery=gallery)
        assert page.stat().st_size > 0
        assert gallery[0].picture.shape == (24, 40, 3)

    def test_montage(self, channels):
        data, model = data_of(channels, count=2), model_of(channels)
        images, masks = (torch.stack([getattr(s, name) for s in data]) for name in ("image", "mask"))
        maps = explain(model, images, "gradcam")
        figure = montage(data.normalization.inverse(images), masks, {"Grad-CAM": maps})
        drawn = figure.axes[0].images[0].get_array()
        colors = as_colors(data.normalization.inverse(images[:1]))[0].permute(1, 2, 0).clamp(0, 1)
        np.testing.assert_allclose(drawn, colors.numpy())

    @pytest.mark.parametrize("corruption", ["defocus_blur", "jpeg_compression", "contrast"])
    def test_a_channel_is_corrupted_as_if_it_were_alone(self, channels, corruption):
        pixels = torch.rand(2, channels, 24, 40)
        together = corrupt(pixels, corruption, 3, [0, 1])
        alone = [corrupt(pixels[:, [k]], corruption, 3, [0, 1]) for k in range(channels)]
        torch.testing.assert_close(together, torch.cat(alone, 1))

    def test_a_channel_is_inpainted_as_if_it_were_alone(self, channels):
        pixels, holes = torch.rand(2, channels, 24, 40), torch.zeros(2, 1, 24, 40, dtype=torch.bool)
        holes[:, :, 5:15, 8:20] = True
        alone = torch.cat([inpaint(pixels[:, [k]], holes) for k in range(channels)], 1)
        assert torch.equal(inpaint(pixels, holes), alone)


def test_colors_of_any_number_of_channels():
    pixels = torch.rand(2, 5, 4, 6)
    assert torch.equal(as_colors(pixels), pixels[:, :3])
    assert torch.equal(as_colors(pixels[:, :3]), pixels[:, :3])
    assert torch.equal(as_colors(pixels[:, :1]), pixels[:, :1].expand(-1, 3, -1, -1))
    torch.testing.assert_close(as_colors(pixels[:, :2])[:, 1], pixels[:, :2].mean(1))


class TestModels:
    def test_a_gray_image_looks_as_its_colored_copy_did(self):
        torch.manual_seed(0)
        model, gray = build_model("resnet18", 4).eval(), torch.rand(2, 1, 64, 64)
        expected = model(gray.expand(-1, 3, -1, -1))
        torch.testing.assert_close(take_channels(model, 1)(gray), expected, atol=1e-5, rtol=1e-4)

    def test_three_colors_and_a_copy_of_their_mean_look_as_the_colors_did(self):
        model, colors = build_model("tiny_cnn", 4).eval(), torch.rand(2, 3, 32, 32)
        first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
        before = first.weight.detach().clone()
        take_channels(model, 4)
        torch.testing.assert_close(first.weight[:, :3], before * 3 / 4)
        torch.testing.assert_close(first.weight[:, 3], before.mean(1) * 3 / 4)
        assert model(torch.cat([colors, colors.mean(1, keepdim=True)], 1)).shape == (2, 4)

    def test_what_cannot_be_changed_is_refused(self):
        with pytest.raises(ValueError, match="`channels` must be at least 1, but got 0"):
            build_model("tiny_cnn", 4, channels=0)
        with pytest.raises(ValueError, match="`model` must have a convolution of 3 channels"):
            take_channels(torch.nn.Linear(3, 2), 1)


@pytest.mark.parametrize("size", SIZES)
class TestProportions:
    def test_a_crop_keeps_the_shape_and_invents_nothing(self, size):
        images, masks = torch.ones(16, 3, *size), [torch.ones(16, 1, *size, dtype=torch.bool)]
        images, masks = augment(images, masks, "flip_crop", torch.Generator().manual_seed(0))
        assert images.shape[2:] == masks[0].shape[2:] == size
        torch.testing.assert_close(images, torch.ones_like(images))
        assert masks[0].all()

    def test_a_crop_keeps_the_proportions_and_takes_the_mask_along(self, size):
        height, width = size
        ramp = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()
        images = ramp.expand(32, -1, -1, -1)
        cropped, (masks,) = augment(
            images, [images[:, 1:] >= width // 2], "flip_crop", torch.Generator().manual_seed(0)
        )
        spans = cropped.amax((2, 3)) - cropped.amin((2, 3))
        scale = spans / torch.tensor([height - 1.0, width - 1.0])
        assert (scale[:, 0] - scale[:, 1]).abs().max() < 0.12  # up to whole pixels
        assert scale.min() > 0.6**0.5 - 0.1
        sure = (cropped[:, 1:] - (width // 2 - 0.5)).abs() > 1
        assert torch.equal((cropped[:, 1:] > width // 2 - 0.5)[sure], masks[sure])

    def test_everything_runs(self, size):
        data, model = data_of(3, size), model_of(3)
        for objective in ("given", "self"):
            config = TrainConfig(objective=SIBConfig.recommended(objective), epochs=1, batch_size=4)
            fine_tune(model, data, config=config, progress=False)
        scores = evaluate(model, data, methods=["sib", "gradcam"], metrics=METRICS, progress=False)
        assert scores.rows["value"].notna().mean() > 0.9
        assert make_gallery({"ce": model}, data, methods=["gradcam"], images=1)[0].picture.shape == (*size, 3)

    def test_objects_are_pasted_on_pictures_of_the_same_proportions(self, size):
        data = CompositeDataset(data_of(3, size), {"a": [torch.zeros(3, 50, 50)], "b": [torch.ones(3, 30, 90)]})
        sample = data[0]
        assert sample.image.shape == (3, *size)
        assert sample.mask.shape == (1, *size)
        assert 0.05 < sample.mask.float().mean() < 0.35


@pytest.mark.parametrize("size", [(30, 50), (50, 30), (20, 20), 24])
def test_wrap_brings_images_to_one_rectangle(size):
    items = [(Image.new("RGB", side), 0) for side in [(64, 48), (48, 64), (31, 90)]]
    data = wrap(items, classes=1, image_size=size)
    expected = (size, size) if isinstance(size, int) else size
    assert {tuple(sample.image.shape[1:]) for sample in data} == {expected}


def test_a_folder_of_gray_pictures(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        ramp = np.arange(400, dtype=np.uint8).reshape(20, 20)
        Image.fromarray(ramp).save(tmp_path / "images" / name / "0.png")
    gray = Normalization((0.5,), (0.25,))
    data = build_dataset("folder", str(tmp_path), "all", 20, normalization=gray)
    assert torch.allclose(gray.inverse(data[0].image)[0], torch.from_numpy(ramp) / 255, atol=1e-6)
    with pytest.raises(ValueError, match="`normalization` must have 1 or 3 channels for pictures, but got 4"):
        build_dataset("folder", str(tmp_path), "all", 20, normalization=Normalization((0.5,) * 4, (0.5,) * 4))
