"""A binary model by class: two columns, the same layers, and every method explains both classes."""

import pytest
import torch
from torch import nn

from sibx.attribution import METHODS, RISE, SIBAttribution, build_method, explain, explain_many, vjp
from sibx.models import ByClass, find_cam_layer, unwrap

QUICK = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "deeplift",
    "gradcam",
    "layercam",
    "ablationcam",
    "sib",
)


class Square(nn.Module):
    """One logit that is the mean of the image's upper half minus that of its lower half."""

    def forward(self, x):
        return (x[:, :, :16].mean((1, 2, 3)) - x[:, :, 16:].mean((1, 2, 3))).unsqueeze(1)


def test_the_head_of_the_twin(binary, images):
    one, two = binary
    torch.testing.assert_close(two(images), torch.cat([-one(images), one(images)], 1) / 2)


def test_columns_and_layers(binary, images):
    one, _ = binary
    both = ByClass(one)
    torch.testing.assert_close(both(images), torch.cat([-one(images), one(images)], 1))
    assert unwrap(both) is one
    assert find_cam_layer(both) == find_cam_layer(one)
    torch.testing.assert_close(ByClass(one, "raw")(images), one(images))
    assert ByClass(lambda x: (x, 1))(images)[1] == 1  # what is not (B, K) is passed on


@pytest.mark.filterwarnings("ignore:DeepLIFT's contributions")  # SiLU has no rule
@pytest.mark.parametrize("method", QUICK)
def test_class_one_is_the_logit_and_class_zero_its_negative(method, binary, images):
    """As Captum's form explains the only column, and that of the negated network."""
    one, _ = binary
    for target, sign in ((1, 1), (0, -1)):
        plain = METHODS[method].build(Signed(one, sign), None)
        found = build_method(method, one).attribute(images, target=target)
        torch.testing.assert_close(found, plain.attribute(images, target=None))


class Signed(nn.Module):
    def __init__(self, model, sign):
        super().__init__()
        self.model, self.sign = model, sign
        self.image_size = 32

    def forward(self, x):
        return self.sign * self.model(x)


def test_the_two_classes_differ(binary, images):
    one, _ = binary
    maps = [explain(one, images, "gradcam", target) for target in (0, 1)]
    assert not torch.allclose(*maps)
    predicted = (one(images)[:, 0] > 0).long()
    torch.testing.assert_close(explain(one, images, "gradcam"), explain(one, images, "gradcam", predicted))


def test_rise_of_one_logit_is_that_of_two(binary, images):
    """Softmax over one column is 1 for every mask, and so was the map 0."""
    one, two = binary
    for target in (0, 1):
        found = RISE(one, masks=20).attribute(images, target)
        torch.testing.assert_close(found, RISE(two, masks=20).attribute(images, target))
        assert found.abs().max() > 0
    by_class, plain = (build_method("rise", m) for m in (one, two))
    by_class.masks = plain.masks = 20
    torch.testing.assert_close(by_class.attribute(images, 0), plain.attribute(images, 0))


def test_rise_of_labels_and_of_raw_scores(model, images):
    """Each by its own mean over the masks: of the sigmoids, and of the scores."""
    for output, score in (("sigmoid", torch.sigmoid), ("raw", lambda z: z)):
        method = RISE(model, output=output, masks=8)
        masks = list(method._draw(images))
        values = torch.stack([score(model(images * m))[:, 3] for m in masks])
        expected = sum(v.view(-1, 1, 1, 1) * m for v, m in zip(values - values.mean(0), masks, strict=True)) / 4
        torch.testing.assert_close(method.attribute(images, 3), expected.detach())


class TestCotangents:
    def test_sigmoids(self, model, images):
        """R = J_sigma^T sigma: every label by itself, column by column."""
        found = vjp(model, images, output="sigmoid").map
        expected = torch.zeros_like(images)
        for k in range(5):
            leaf = images.clone().requires_grad_()
            p = model(leaf)[:, k].sigmoid()
            expected += torch.autograd.grad(p, leaf, p.detach())[0]
        torch.testing.assert_close(found, expected)
        told = SIBAttribution(ByClass(model, "sigmoid"), output="vjp").attribute(images)
        torch.testing.assert_close(told, expected)
        torch.testing.assert_close(build_method("vjp", model, output="sigmoid").attribute(images), expected)

    def test_one_logit(self, binary, images):
        """The log-probability of a class is that of the network with two logits."""
        one, two = binary
        for target in (torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)):
            maps = [vjp(m, images, cotangent="log_probability", target=target).map for m in (one, two)]
            torch.testing.assert_close(*maps)

    def test_raw_scores_have_no_logarithm(self, model, images):
        with pytest.raises(ValueError, match="`cotangent` must not be 'log_probability' for output='raw'"):
            vjp(model, images, cotangent="log_probability", target=torch.zeros(4).long(), output="raw")


def test_a_value_without_classes(images):
    """``raw``, and no target at all, explain the value as it is."""
    plain = input_x_gradient(Square(), images)
    for target, output, sign in ((0, "raw", 1), (None, "auto", 1), (0, "auto", -1), (1, "auto", 1)):
        found = explain_many(Square(), images, target, ["input_x_gradient"], output=output)
        torch.testing.assert_close(found["input_x_gradient"], sign * plain)


def input_x_gradient(model, images):
    leaf = images.clone().requires_grad_()
    return images * torch.autograd.grad(model(leaf).sum(), leaf)[0]


def test_a_softmax_is_noticed(model, images):
    with pytest.warns(UserWarning, match="seems to end in a softmax"):
        explain(nn.Sequential(model, nn.Softmax(1)), images, "saliency")


def test_an_unknown_output(model, images):
    with pytest.raises(ValueError, match="`output` must be one of auto, softmax, sigmoid, raw, but got 'logits'"):
        explain(model, images, "saliency", 0, output="logits")
