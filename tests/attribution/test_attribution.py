"""Attribution: the contract over METHODS, oracles, closed forms, and the soft mask against its slow form."""

import copy
import gc
import pickle

import captum.attr as captum
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import NoiseTunnel, visualization
from captum.metrics import infidelity, sensitivity_max
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import sobel
from torch import nn

from sibx.attribution import (
    MASKS,
    METHODS,
    ControlMap,
    DensityMask,
    GradCAM,
    HardDensityMask,
    HiResCAM,
    InputXGradient,
    IntegratedGradients,
    PeakMask,
    Saliency,
    SIBAttribution,
    SmoothGrad,
    TopP,
    TopShare,
    build_method,
    is_control,
    soft_quantile,
    to_heatmap,
    vjp,
)
from sibx.attribution import explain as sibx_explain
from sibx.attribution.controls import center, random
from sibx.attribution.cotangents import potential
from sibx.attribution.mask_rules import odd_window
from sibx.images import IMAGENET
from sibx.images.baselines import make_baseline
from sibx.models import receptive_field
from tests.helpers.methods import HERE, build, network_for
from tests.helpers.waits import Waits
from tests.references import sib as reference

NAMES = HERE
EXPLAINERS = [n for n in NAMES if not is_control(n)]


def explain(name, model, images, target=1):
    return build(name, model).attribute(images, target=target)


@pytest.fixture
def model(request):
    """A small network that the method of the test can explain."""
    return network_for(getattr(request.node, "callspec", None) and request.node.callspec.params.get("name"))


def failing(model):
    """The model with a classifier that fails, after all hooks have been set."""
    model.classifier = nn.Linear(1, 1)
    return model


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_tensor_and_tuple(self, name, model, images):
        one = explain(name, model, images)
        (as_tuple,) = explain(name, model, (images,))
        assert torch.equal(one, as_tuple)
        assert one.shape[0] == 4
        assert one.shape[2:] == images.shape[2:]
        assert one.is_contiguous()
        assert not one.requires_grad

    def test_row_alone_is_row_in_batch(self, name, model, images):
        model = model.double()
        whole = explain(name, model, images.double(), target=[0, 1, 2, 3])
        alone = torch.cat([explain(name, model, images.double()[i : i + 1], target=i) for i in range(4)])
        assert torch.allclose(whole, alone, atol=1e-6 if name == "integrated_gradients" else 1e-10)

    @pytest.mark.filterwarnings("ignore:The model is in train mode")  # a mode of its own is to be left as it was
    @pytest.mark.filterwarnings("ignore:DeepLIFT's contributions")  # it explains two batches in one
    def test_leaves_no_trace(self, name, model, images):
        model.train()
        list(model.modules())[3].eval()
        images.requires_grad_()
        images.grad = torch.ones_like(images)
        modes = [m.training for m in model.modules()]
        state = {k: v.clone() for k, v in model.state_dict().items()}
        with torch.no_grad():
            explain(name, model, images)
            assert not torch.is_grad_enabled()
        assert [m.training for m in model.modules()] == modes
        assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
        assert images.requires_grad
        assert torch.equal(images.grad, torch.ones_like(images))
        assert all(p.grad is None for p in model.parameters())
        assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())

    def test_frozen_parameters(self, name, model, images):
        expected = explain(name, model, images)
        assert torch.equal(explain(name, model.requires_grad_(False), images), expected)

    def test_inference_mode(self, name, model, images):
        expected = explain(name, model, images)
        with torch.inference_mode():
            assert torch.equal(explain(name, model, images.clone()), expected)

    def test_empty_batch(self, name, model, images):
        assert explain(name, model, images[:0]).shape[0] == 0

    def test_channels_last(self, name, model, images):
        result = explain(name, model, images.contiguous(memory_format=torch.channels_last))
        assert result.is_contiguous()
        assert torch.allclose(result, explain(name, model, images), atol=1e-4)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_dtype_is_kept(self, name, dtype, model, images):
        assert explain(name, model.to(dtype), images.to(dtype)).dtype == dtype

    def test_heatmap(self, name, model, images):
        heatmap = to_heatmap(explain(name, model, images), (32, 32), METHODS[name].reduce)
        assert heatmap.shape == (4, 1, 32, 32)
        assert heatmap.dtype == torch.float32
        assert heatmap.min() >= 0

    def test_deepcopy_and_pickle(self, name, model, images):
        method = build(name, model)
        expected = method.attribute(images, target=1)
        for twin in (copy.deepcopy(method), pickle.loads(pickle.dumps(method))):
            assert torch.allclose(twin.attribute(images, target=1), expected)

    def test_deterministic(self, name, model, images):
        assert torch.equal(explain(name, model, images), explain(name, model, images))


@pytest.mark.parametrize(("name", "channels"), [("integrated_gradients", 3), ("sib", 3), ("gradcam", 1)])
def test_empty_batch_keeps_its_shape(name, channels, model, images):
    assert explain(name, model, images[:0]).shape == (0, channels, 32, 32)
    assert explain(name, model, (images[:0],))[0].shape == (0, channels, 32, 32)


@pytest.mark.parametrize("name", EXPLAINERS)
class TestExplainers:
    def test_restored_after_an_exception(self, name, model, images):
        broken = failing(model)
        with pytest.raises(RuntimeError):
            explain(name, broken, images)
        assert not images.requires_grad
        assert not any(m._forward_hooks for m in broken.modules())

    def test_target_forms(self, name, model, images):
        method = build(name, model)
        expected = method.attribute(images, target=2)
        numbers = np.int64(2), torch.tensor(2), (2,)
        for target in (*numbers, [2] * 4, [np.int64(2)] * 4, np.full(4, 2), torch.full((4,), 2)):
            found = method.attribute(images, target=target)
            assert torch.allclose(found, expected, atol=1e-7), target

    def test_several_classes_at_once(self, name, model, images):
        pairs = [[0, 3], [1, 2], [4, 4], [2, 0]]
        many = explain(name, model, images, pairs)
        assert many.shape[:2] == (4, 2)
        first, second = ([pair[i] for pair in pairs] for i in (0, 1))
        assert torch.equal(many[:, 0], explain(name, model, images, first))
        assert torch.equal(many[:, 1], explain(name, model, images, second))

    @pytest.mark.parametrize(
        "target", [True, 1.0, torch.tensor([1.0] * 4), torch.tensor([True] * 4), [True] * 4], ids=str
    )
    def test_bad_targets(self, name, target, model, images):
        with pytest.raises(ValueError, match="`target` must be an integer class index"):
            explain(name, model, images, target)

    def test_integer_images(self, name, model):
        with pytest.raises(ValueError, match=r"`inputs` must be a floating-point tensor .* a uint8 tensor"):
            explain(name, model, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))

    def test_nan_is_not_hidden(self, name, model, images):
        images[1] = torch.nan
        assert not explain(name, model, images)[1].isfinite().all()

    def test_noise_tunnel(self, name, model, images):
        tunnel = NoiseTunnel(build(name, model))
        assert tunnel.attribute(images, target=1, nt_samples=2, stdevs=0.1).isfinite().all()

    def test_internal_batch_size(self, name, model, images):
        method = build(name, model.double())
        targets = torch.tensor([3, 1, 0, 2])
        whole = method.attribute(images.double(), target=targets)
        split = method.attribute(images.double(), target=targets, internal_batch_size=3)
        assert torch.allclose(whole, split, atol=1e-7)
        with pytest.raises(ValueError, match="`internal_batch_size` must be at least 1"):
            method.attribute(images, target=1, internal_batch_size=0)

    def test_sensitivity_max(self, name, model, images):
        model = model.double()  # the attribution of a CAM is a tensor per input, tuple in tuple out
        scores = sensitivity_max(build(name, model).attribute, images.double(), target=1, n_perturb_samples=2)
        assert scores.shape == (4,)
        assert (scores >= 0).all()


@pytest.mark.parametrize("name", ["sib", "gradcam", "layercam", "scorecam", "ablationcam"])
def test_a_target_picks_one_score_per_row(name, images):
    """A target that leaves several scores would have them summed silently."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(7))  # (B, 4, 4, 4)
    with pytest.raises(ValueError, match="`target` must pick one score per row"):
        build_method(name, net, "1").attribute(images, target=(1, 2))


@pytest.mark.parametrize("name", ["saliency", "input_x_gradient", "smoothgrad", "integrated_gradients", "gradcam"])
def test_a_target_is_needed_for_several_outputs(name, model, images):
    with pytest.raises((ValueError, AssertionError), match=r"[Tt]arget"):
        explain(name, model, images, None)


class TestExplain:
    """The short way gives what the long way gives."""

    @pytest.mark.parametrize("name", ["sib", "vjp", "gradcam", "saliency", "control_center"])
    def test_predicted_class_by_default(self, name, model, images):
        spec, predicted = METHODS[name], model(images).argmax(1)
        options = {"target": predicted} if spec.uses_target else {}
        expected = to_heatmap(build_method(name, model).attribute(images, **options), (32, 32), spec.reduce)
        found = sibx_explain(model.train(), images, name)
        assert model.training
        model.eval()
        assert torch.equal(found, expected)
        assert (found.dtype, found.requires_grad) == (torch.float32, False)

    def test_target_layer_and_functions(self, model, images):
        by_class = sibx_explain(model, images, "gradcam", 2, layer="features.3")
        assert torch.equal(by_class, GradCAM(model, "features.3").attribute(images, 2))
        assert torch.equal(sibx_explain(lambda x: model(x), images), sibx_explain(model, images, "sib"))
        with pytest.raises(ValueError, match=r"`method` must be one of .*did you mean 'gradcam'"):
            sibx_explain(model, images, "gradcamm")
        with pytest.raises(ValueError, match="`images` must be a floating-point tensor"):
            sibx_explain(model, images[0])

    @pytest.mark.filterwarnings("ignore:DeepLIFT's contributions")  # SiLU has no rule
    def test_kinds_say_what_a_method_looks_at(self, model, images):
        """Controls never run the model; the others do, CAMs with a layer, and only perturbations without a gradient."""
        assert {spec.kind for spec in METHODS.values()} == {"gradient", "cam", "attention", "perturbation", "control"}
        for name, spec in METHODS.items():
            seen = []
            handle = model.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output))
            if spec.needs_module and name != "deeplift":
                handle.remove()
                continue
            try:
                build(name, model).attribute(images, **({"target": 1} if spec.uses_target else {}))
            except ValueError:
                assert name == "guided_gradcam"  # which needs ReLU modules
            handle.remove()
            assert bool(seen) == (spec.kind != "control") or name == "guided_gradcam", name
            assert is_control(name) == (spec.kind == "control")
            assert spec.needs_layer == (spec.kind == "cam") or name == "guided_gradcam"


class TestSIB:
    def test_vjp_is_the_jacobian_times_p(self, model, images):
        model, images = model.double(), images.double()[:2]
        for row in images:
            jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0].softmax(0), row)
            p = model(row[None])[0].softmax(0)
            expected = torch.einsum("kchw,k->chw", jacobian, p)
            assert torch.allclose(vjp(model, row[None]).map[0], expected, atol=1e-14)

    def test_vjp_of_ones_is_the_gradient_of_the_sum(self, model, images):
        """Of the logits; a sum over images, too, so that a batch of many gives what a batch of one gives."""
        model, images = model.double(), images.double().requires_grad_()
        (expected,) = torch.autograd.grad(model(images).sum(), images)
        assert torch.allclose(vjp(model, images.detach(), cotangent="ones").map, expected, atol=1e-14)

    def test_closed_form_of_a_linear_softmax_model(self):
        """R = W^T (diag p - p p^T) p."""
        torch.manual_seed(0)
        linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 5, dtype=torch.float64))
        x = torch.randn(3, 3, 2, 2, dtype=torch.float64)
        logits, r = vjp(linear, x)
        for row, z in zip(r, logits, strict=True):
            p = z.softmax(0)
            expected = linear[1].weight.T @ (torch.diag(p) - torch.outer(p, p)) @ p
            assert torch.allclose(row.flatten(), expected, atol=1e-15)

    @pytest.mark.parametrize("cotangent", ["probability", "ones"])
    def test_gradcheck(self, cotangent):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.SiLU(), nn.Flatten(), nn.Linear(12, 3)).double()
        x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t: vjp(net, t, cotangent=cotangent, create_graph=True).map, (x,))

    def test_potentials(self):
        z = torch.randn(3, 4, dtype=torch.float64)
        y = torch.tensor([0, 3, 1])
        assert potential(z, "log_probability", y) == -F.cross_entropy(z, y, reduction="sum")
        assert potential(z, "logit", y) == z[range(3), y].sum()
        assert torch.isclose(potential(z, "centered_logit", y), potential(z + 7, "centered_logit", y))
        with pytest.raises(ValueError, match="`target` must be given for cotangent='logit'"):
            potential(z, "logit")
        with pytest.raises(ValueError, match="`cotangent` must be one of"):
            potential(z, "logits")

    def test_outputs_fit_together(self, model, images):
        parts = {
            o: SIBAttribution(model, output=o).attribute(images) for o in ("foreground", "vjp", "mask", "background")
        }
        assert torch.allclose(parts["foreground"], parts["vjp"] * parts["mask"])
        assert torch.allclose(parts["foreground"] + parts["background"], parts["vjp"])
        assert torch.equal(parts["mask"][:, :1], SIBAttribution(model).soft_mask(images))
        assert torch.equal(parts["vjp"], vjp(model, images).map)
        assert parts["mask"].min() > 0
        assert parts["mask"].max() < 1

    def test_auto_follows_the_target(self, model, images):
        by_class = SIBAttribution(model, output="vjp").attribute(images, target=2)
        assert torch.equal(by_class, SIBAttribution(model, output="vjp", cotangent="logit").attribute(images, target=2))
        assert torch.allclose(by_class, Saliency(model).attribute(images, target=2))
        always_p = SIBAttribution(model, output="vjp", cotangent="probability").attribute(images, target=2)
        assert torch.equal(always_p, vjp(model, images).map)

    @pytest.mark.parametrize("cotangent", ["log_probability", "logit", "centered_logit"])
    def test_cotangents_of_a_class(self, model, images, cotangent):
        """One vocabulary: the same map as ``vjp`` with this cotangent, for every form of a target."""
        target = torch.tensor([2, 0, 4, 1])
        expected = vjp(model, images, cotangent=cotangent, target=target).map
        method = SIBAttribution(model, output="vjp", cotangent=cotangent)
        assert torch.allclose(method.attribute(images, target), expected)
        assert torch.allclose(method.attribute(images, target.tolist()), expected)
        with pytest.raises(ValueError, match="`target` must be given"):
            method.attribute(images)

    def test_multiply_by_inputs(self, model, images):
        plain = SIBAttribution(model).attribute(images, target=1)
        method = SIBAttribution(model, multiply_by_inputs=True)
        assert method.multiplies_by_inputs
        assert torch.allclose(method.attribute(images, target=1), plain * images)
        with pytest.raises(ValueError, match="`multiply_by_inputs` must be False for output='mask'"):
            SIBAttribution(model, output="mask", multiply_by_inputs=True)

    def test_scalar_model(self, images):
        attribution = SIBAttribution(lambda x: x.square().sum((1, 2, 3)), output="vjp").attribute(images)
        assert torch.equal(attribution, 2 * images)

    def test_tabular_input_gets_plain_vjp(self, images):
        table = torch.randn(4, 6)
        network = nn.Linear(6, 3)
        maps = SIBAttribution(lambda x, t: x.mean((2, 3)) + network(t)).attribute((images, table), target=0)
        assert torch.allclose(maps[1], network.weight[0].expand(4, 6))
        with pytest.raises(ValueError, match="`inputs` must hold an image tensor"):
            SIBAttribution(network).soft_mask(table, target=0)

    def test_input_the_model_ignores_gets_zeros(self, model, images):
        maps = SIBAttribution(lambda x, y: model(x)).attribute((images, images.clone()), target=0)
        assert maps[0].any()
        assert not maps[1].any()

    def test_a_model_that_ignores_its_images_gives_zeros(self, images):
        """With a path for gradients; without one it is an error."""
        method = SIBAttribution(lambda x: torch.ones(len(x), 3) + 0 * x.flatten(1)[:, :3], output="vjp")
        assert not method.attribute(images).any()

    def test_additional_forward_args(self, model, images):
        scaled = SIBAttribution(lambda x, s, flag: model(x) * s[:, None]).attribute
        scale = torch.tensor([1.0, 2.0, 3.0, 4.0])
        whole = scaled(images, target=0, additional_forward_args=(scale, "flag"))
        split = scaled(images, target=0, additional_forward_args=(scale, "flag"), internal_batch_size=2)
        assert torch.allclose(whole, split, atol=1e-6)

    def test_additional_argument_alone(self, model, images):
        doubled = SIBAttribution(lambda x, s: model(x) * s, output="vjp").attribute(
            images, target=0, additional_forward_args=torch.tensor(2.0)
        )
        assert torch.allclose(doubled, 2 * SIBAttribution(model, output="vjp").attribute(images, target=0))

    def test_infidelity_and_visualization(self, model, images):
        method = SIBAttribution(model)
        maps = method.attribute(images, target=3)

        def perturb(inputs):
            noise = torch.full_like(inputs, 0.01)
            return noise, inputs - noise

        assert infidelity(model, perturb, images, maps, target=3).shape == (4,)
        figure, _ = visualization.visualize_image_attr(maps[0].permute(1, 2, 0).numpy(), use_pyplot=False)
        assert figure is not None

    def test_name(self):
        assert SIBAttribution.get_name() == "SIB Attribution"
        assert GradCAM.get_name() == "Grad-CAM"

    @pytest.mark.parametrize(
        ("forward", "message"),
        [
            (lambda x: {"a": x}, "`forward_func` must return logits of shape .* but got a dict"),
            (lambda x: x, r"`forward_func` must return logits .* a float32 tensor of shape \(4, 3, 32, 32\)"),
        ],
    )
    def test_outputs_must_be_logits(self, forward, message, images):
        with pytest.raises(ValueError, match=message):
            SIBAttribution(forward).attribute(images)
        with pytest.raises(ValueError, match="`forward_func` must return"):
            vjp(forward, images)

    def test_scores_must_be_a_tensor(self, images):
        with pytest.raises(ValueError, match=r"must return a tensor of scores, but got a dict. sibx.models.Scored"):
            SIBAttribution(lambda x: {"a": x}, cotangent="logit").attribute(images, target=0)

    def test_constructor_errors(self, model):
        with pytest.raises(ValueError, match="`cotangent` must be one of auto"):
            SIBAttribution(model, cotangent="p")
        with pytest.raises(ValueError, match=r"`output` must be one of foreground.*did you mean 'mask'"):
            SIBAttribution(model, output="masks")
        with pytest.raises(ValueError, match=r"`mask` must be one of density, .*did you mean 'top_p'"):
            SIBAttribution(model, mask="topp")
        with pytest.raises(ValueError, match=r"`layer` must be a module \(a plain function .* 'features'"):
            SIBAttribution(abs, layer="features")
        with pytest.raises(ValueError, match="`multiply_by_inputs` must be False for output='mask' or a layer"):
            SIBAttribution(model, layer="features", multiply_by_inputs=True)

    @pytest.mark.parametrize("mask", MASKS)
    def test_masks_by_name(self, mask, model, images):
        found = SIBAttribution(model, mask=mask).soft_mask(images)
        vjp_map = SIBAttribution(model, output="vjp").attribute(images)
        assert torch.equal(found, MASKS[mask](vjp_map))
        assert found.min() >= 0
        assert 0 < found.mean() < 1
        assert found.max() <= 1


class TestSIBAtALayer:
    def test_is_the_contribution_drawn_where_the_units_look(self, model, images):
        features = model.features(images).detach().requires_grad_()
        z = model.classifier(features.mean((2, 3)))
        (r,) = torch.autograd.grad(z.softmax(1).square().sum() / 2, features)
        expected = receptive_field(model, model.features, images).draw((r * features).sum(1, keepdim=True), (32, 32))
        method = SIBAttribution(model, layer="features", output="vjp")
        assert torch.allclose(method.attribute(images), expected.detach(), atol=1e-7)

    def test_positive_part_of_a_class_is_hirescam(self, model, images):
        signed = SIBAttribution(model, layer="features", output="vjp").attribute(images, target=2)
        small = HiResCAM(model, "features", upsample=False).attribute(images, target=2)
        cam = receptive_field(model, model.features, images).draw(small, (32, 32))
        assert torch.allclose(signed.where(signed > 0, 0)[cam == signed], cam[cam == signed])
        assert (cam == signed).any()

    def test_outputs_fit_together(self, model, images):
        maps = {
            o: SIBAttribution(model, layer="features", output=o).attribute(images)
            for o in ("foreground", "background", "vjp", "mask")
        }
        assert all(m.shape == (4, 1, 32, 32) for m in maps.values())
        assert torch.allclose(maps["foreground"] + maps["background"], maps["vjp"])
        assert torch.allclose(maps["foreground"], maps["vjp"] * maps["mask"])
        method = SIBAttribution(model, layer=model.features)
        assert torch.equal(method.soft_mask(images), maps["mask"])
        assert method.attribute(images[:0]).shape == (0, 1, 32, 32)

    def test_half_pixel(self, model, images):
        aligned, plain = (
            SIBAttribution(model, layer="features", align=a).attribute(images)
            for a in ("receptive_field", "half_pixel")
        )
        assert not torch.equal(aligned, plain)

    def test_gradients_reach_the_parameters(self, model, images):
        SIBAttribution(model, layer="features", create_graph=True).attribute(images).square().sum().backward()
        assert model.features[0].weight.grad.any()


class TestSoftMask:
    @settings(max_examples=60, deadline=None)
    @given(
        n=st.integers(1, 400),
        q=st.floats(0, 1),
        temperature=st.sampled_from([0.01, 0.1, 1.0, 5.0]),
        seed=st.integers(0, 99),
    )
    def test_soft_quantile_is_the_full_sort(self, n, q, temperature, seed):
        values = torch.randn(3, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        expected = torch.stack([reference.soft_quantile(row, q, temperature) for row in values])
        assert torch.allclose(soft_quantile(values, q, temperature)[:, 0], expected, atol=1e-12, rtol=0)

    def test_soft_quantile_dim_and_gradient(self):
        values = torch.randn(4, 30, 2, dtype=torch.float64, requires_grad=True)
        assert soft_quantile(values, 0.8, dim=1).shape == (4, 1, 2)
        fast = torch.autograd.grad(soft_quantile(values, 0.8, dim=1).square().sum(), values)[0]
        slow = sum(reference.soft_quantile(values[i, :, j], 0.8) ** 2 for i in range(4) for j in range(2))
        assert torch.allclose(fast, torch.autograd.grad(slow, values)[0], atol=1e-12)

    @pytest.mark.parametrize(("q", "temperature", "name"), [(1.1, 0.1, "q"), (-0.1, 0.1, "q"), (0.5, 0, "temperature")])
    def test_soft_quantile_errors(self, q, temperature, name):
        with pytest.raises(ValueError, match=f"`{name}` must"):
            soft_quantile(torch.zeros(3), q, temperature)

    @pytest.mark.parametrize("window", [1, 5, 9])
    def test_density_mask_is_the_published_one(self, window):
        r = torch.randn(3, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        expected = torch.stack([reference.density_mask(row, window) for row in r])[:, None]
        assert torch.allclose(DensityMask(window)(r), expected, atol=1e-12)

    def test_window_scales_with_the_side(self):
        assert [odd_window(s) for s in (224, 112, 64, 8)] == [31, 15, 9, 1]
        r = torch.randn(1, 3, 64, 64)
        assert torch.equal(DensityMask()(r), DensityMask(9)(r))

    def test_l2_reduction_sees_what_channels_cancel(self):
        r = torch.zeros(1, 2, 16, 16)
        r[:, 0, 4:9, 4:9], r[:, 1, 4:9, 4:9] = 1.0, -1.0
        assert DensityMask(3, reduce="l2")(r)[0, 0, 6, 6] > 0.9
        cancelled = DensityMask(3)(r)[0, 0, 1:-1, 1:-1]  # zero padding lowers the border
        assert cancelled.std() < 1e-6

    def test_constant_map_gives_a_constant_mask(self):
        assert DensityMask(1)(torch.ones(1, 3, 8, 8)).std() == 0

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda: DensityMask(window=4), "`window` must be a positive odd number, but got 4"),
            (lambda: DensityMask(quantile=2), r"`quantile` must lie in \[0, 1\], but got 2"),
            (lambda: DensityMask(reduce="max"), "`reduce` must be one of abs_mean, l2"),
            (lambda: DensityMask()(torch.zeros(3, 3)), "`vjp_map` must be a floating-point tensor of shape"),
            (lambda: TopShare(1.0), "`share` must lie in"),
            (lambda: TopP(0.0), "`p` must lie in"),
            (lambda: TopP(reduce="max"), "`reduce` must be one of abs_mean, l2"),
            (lambda: PeakMask(quantile=2), r"`quantile` must lie in \[0, 1\], but got 2"),
        ],
    )
    def test_errors(self, build, message):
        with pytest.raises(ValueError, match=message):
            build()

    def test_top_share(self):
        evidence = torch.arange(100.0).view(1, 1, 10, 10)
        mask = TopShare(0.2)(evidence)
        assert mask.sum() == 20
        assert mask[0, 0, 8:].all()
        assert TopShare(0.2)(torch.randn(2, 3, 10, 10)).sum() == 40
        assert TopShare(0.001)(evidence).sum() == 1

    def test_hard_density_is_the_limit_of_steep_steps(self):
        r = torch.randn(2, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        expected = torch.stack([reference.hard_density_mask(row, 5) for row in r])[:, None]
        assert torch.equal(HardDensityMask(5)(r), expected)
        assert HardDensityMask(1)(torch.ones(1, 3, 8, 8)).all()

    def test_hard_density_is_the_same_in_any_precision(self):
        r = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
        r[..., 16:40, 16:40] = torch.rand(24, 24, generator=torch.Generator().manual_seed(0)) + 1
        single, double = HardDensityMask()(r.float()), HardDensityMask()(r)
        assert (single != double).double().mean() < 0.01
        assert double.any()

    def test_masks_under_autocast(self):
        r = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.bfloat16):
            found = DensityMask()(r)
        assert torch.equal(found, DensityMask()(r))

    def test_large_maps_in_half_precision(self):
        r = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
        assert (DensityMask()(r.half()).float() - DensityMask()(r)).abs().mean() < 0.05

    def test_peak(self):
        r = torch.randn(2, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        for row, found in zip(r, PeakMask()(r), strict=True):
            g = row.mean(0).abs() / row.mean(0).abs().max()
            expected = torch.sigmoid(10 * (g - reference.soft_quantile(g.flatten(), 0.8)))
            assert torch.allclose(found[0], expected, atol=1e-6)
        assert torch.allclose(PeakMask()(torch.ones(1, 3, 8, 8)), torch.tensor(0.5))

    def test_top_p_is_the_smallest_set(self):
        r = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 1, 2, 2)
        for p, count in ((0.3, 1), (0.41, 2), (0.7, 2), (0.71, 3), (0.95, 4)):
            assert TopP(p)(r).flatten().tolist() == [1.0] * count + [0.0] * (4 - count), p
        assert not TopP()(torch.zeros(1, 1, 2, 2)).any()


class TestOracles:
    @pytest.mark.parametrize("layer", [None, "features.7", "features"])
    def test_gradcam_is_captums(self, model, images, layer):
        module = model.get_submodule(layer or "features")
        expected = captum.LayerGradCam(model, module).attribute(images, target=3, relu_attributions=True)
        expected = F.interpolate(expected, (32, 32), mode="bilinear").detach()
        for name in (layer, module):
            ours = GradCAM(model, name, align="half_pixel").attribute(images, target=3)
            assert torch.allclose(ours, expected, atol=1e-6)

    def test_gradcam_on_a_resnet(self):
        torch.manual_seed(0)
        from sibx.models import build_model

        model, x = build_model("resnet18", 4).eval(), torch.randn(2, 3, 64, 64)
        expected = captum.LayerGradCam(model, model.layer4).attribute(x, target=[1, 3], relu_attributions=True)
        ours = GradCAM(model, upsample=False).attribute(x, target=[1, 3])
        assert ours.shape == (2, 1, 2, 2)
        assert torch.allclose(ours, expected, atol=1e-5)

    def test_gradient_adapters_are_captums(self, model, images):
        images.requires_grad_()  # else captum warns
        pairs = {
            Saliency: captum.Saliency(model).attribute(images, target=1, abs=False),
            InputXGradient: captum.InputXGradient(model).attribute(images, target=1).detach(),
            IntegratedGradients: captum.IntegratedGradients(model).attribute(images, target=1, n_steps=32),
        }
        for cls, expected in pairs.items():
            assert torch.allclose(cls(model).attribute(images, target=1), expected, atol=1e-6)

    def test_integrated_gradients_points_per_pass(self, model, images):
        rows = []
        model.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
        maps = [
            IntegratedGradients(model, steps=8, points_per_pass=p).attribute(images, target=1) for p in (None, 4, 100)
        ]
        assert max(rows[: len(rows) // 2]) == 8  # two steps of four images
        assert max(rows) == 32
        assert min(rows) == 4
        assert all(torch.allclose(m, maps[0], atol=1e-6) for m in maps)
        with pytest.raises(ValueError, match="`points_per_pass` must be at least 1, but got 0"):
            IntegratedGradients(model, points_per_pass=0)

    def test_integrated_gradients_are_complete(self, model, images):
        maps = IntegratedGradients(model, steps=128, points_per_pass=50).attribute(images, target=1)
        with torch.no_grad():
            gain = model(images)[:, 1] - model(torch.zeros_like(images))[:, 1]
        assert torch.allclose(maps.sum((1, 2, 3)), gain, atol=1e-3)

    @pytest.mark.parametrize("baseline", ["mean", "black", "blur", "noise"])
    def test_integrated_gradients_start_at_the_named_baseline(self, baseline, model, images):
        method = IntegratedGradients(model, steps=128, baseline=baseline, normalization=IMAGENET)
        with torch.no_grad():
            gain = (model(images) - model(make_baseline(images, baseline, IMAGENET)))[:, 1]
        assert torch.allclose(method.attribute(images, target=1).sum((1, 2, 3)), gain, atol=2e-3)

    def test_integrated_gradients_of_a_table(self):
        network, table = nn.Linear(4, 2), torch.randn(3, 4)
        expected = table * network.weight[1]
        assert torch.allclose(IntegratedGradients(network).attribute(table, target=1), expected, atol=1e-6)
        with pytest.raises(ValueError, match="`images` must be a floating-point tensor of shape"):
            IntegratedGradients(network, baseline="blur").attribute(table, target=1)
        with pytest.raises(ValueError, match="`baseline` must be one of mean"):
            IntegratedGradients(network, baseline="zero")

    def test_smoothgrad_is_the_mean_gradient_over_noise(self, model, images):
        generator = torch.Generator().manual_seed(0)
        total = torch.zeros_like(images)
        for _ in range(5):
            noise = torch.randn(3, 32, 32, generator=generator)
            for i, image in enumerate(images):
                sigma = 0.2 * (image.max() - image.min())
                x = (image + sigma * noise)[None].requires_grad_()
                total[i] += torch.autograd.grad(model(x)[0, 1], x)[0][0] / 5
        ours = SmoothGrad(model, samples=5, noise=0.2).attribute(images, target=1)
        assert torch.allclose(ours, total, atol=1e-6)

    def test_smoothgrad_without_noise_is_the_gradient(self, model, images):
        assert torch.allclose(
            SmoothGrad(model, samples=2, noise=0).attribute(images, target=1),
            Saliency(model).attribute(images, target=1),
            atol=1e-7,
        )


class TestDifferentiable:
    """Explanations in a loss: derivatives of the map, to the inputs and to the parameters."""

    @pytest.fixture
    def net(self):
        torch.manual_seed(0)
        layers = [nn.Conv2d(2, 3, 3), nn.SiLU(), nn.Conv2d(3, 3, 2), nn.SiLU(), nn.Flatten(), nn.Linear(27, 3)]
        return nn.Sequential(*layers).double()

    @pytest.mark.parametrize("name", ["sib", "gradcam", "gradcam_pp", "layercam", "hirescam", "xgradcam"])
    def test_gradcheck_to_the_inputs(self, name, net):
        x = torch.randn(2, 2, 6, 6, dtype=torch.float64, requires_grad=True)
        if name == "sib":
            method = SIBAttribution(net, mask=DensityMask(3, slope=1.0), create_graph=True)
        else:
            method = METHODS[name].build(net, "1", create_graph=True)
        assert torch.autograd.gradcheck(lambda t: method.attribute(t, target=1), (x,))

    @pytest.mark.parametrize("build", [SIBAttribution, GradCAM])
    def test_gradients_reach_the_parameters(self, build, model, images):
        method = build(model, create_graph=True)
        method.attribute(images, target=[0, 1, 2, 3], internal_batch_size=3).square().sum().backward()
        assert model.features[0].weight.grad.abs().sum() > 0
        assert not images.requires_grad

    def test_vjp_reaches_the_parameters(self, model, images):
        vjp(model, images, create_graph=True).map.square().sum().backward()
        assert model.features[0].weight.grad.abs().sum() > 0

    def test_detached_by_default(self, model, images):
        images.requires_grad_()
        for method in (SIBAttribution(model), GradCAM(model)):
            assert not method.attribute(images, target=1).requires_grad


class TestGradCAM:
    def test_needs_a_module(self):
        with pytest.raises(ValueError, match=r"`layer` must be a module \(a plain function .* None"):
            GradCAM(lambda x: x)

    def test_layer_must_run(self, model, images):
        with pytest.raises(ValueError, match="`layer` must run in the model's forward pass"):
            GradCAM(model, nn.Conv2d(3, 3, 3)).attribute(images, target=0)

    def test_is_a_layer_attribution(self, model):
        assert isinstance(GradCAM(model), captum.LayerAttribution)
        assert GradCAM(model).layer is model.features


class TestControls:
    def test_values(self):
        x = torch.tensor([[[[1.0, -3.0]], [[0.0, 2.0]]]])
        assert ControlMap(abs).attribute(x).tolist() == [[[[1, 3]], [[0, 2]]]]
        contrast = build_method("control_input_contrast", None).attribute(x)
        assert contrast.tolist() == [[[[2, 2]], [[1, 1]]]]

    def test_edges_are_sobels_magnitude(self, images):
        found = build_method("control_edges", None).attribute(images.double())
        for ours, plane in zip(found.flatten(0, 1).numpy(), images.double().flatten(0, 1).numpy(), strict=True):
            assert ours == pytest.approx(sobel(plane))

    def test_center_peaks_in_the_middle(self):
        blob = center(torch.zeros(2, 3, 9, 7))
        assert blob.shape == (2, 1, 9, 7)
        assert blob[0].argmax() == 4 * 7 + 3
        assert torch.allclose(blob, blob.flip(2).flip(3))

    def test_random_depends_on_content_only(self, images):
        assert torch.equal(random(images)[2], random(images[2:3])[0])
        assert not torch.equal(random(images)[0], random(images)[1])

    def test_needs_images(self):
        with pytest.raises(ValueError, match="`inputs` must be a floating-point tensor of shape"):
            build_method("control_random", None).attribute(torch.zeros(2, 3))


class TestToHeatmap:
    def test_reductions(self):
        maps = torch.tensor([[[[3.0, -1.0]], [[-4.0, 0.5]]]])
        assert to_heatmap(maps, (1, 2), "l2").flatten().tolist() == pytest.approx([5.0, 1.25**0.5])
        assert to_heatmap(maps, (1, 2), "positive_sum").flatten().tolist() == [0.0, 0.0]
        assert to_heatmap(-maps, (1, 2), "positive_sum").flatten().tolist() == [1.0, 0.5]
        assert to_heatmap(maps, (1, 2), "sum").flatten().tolist() == [-1.0, -0.5]

    def test_resize(self):
        maps = torch.rand(2, 1, 4, 4)
        assert torch.equal(to_heatmap(maps, (8, 8), "l2"), F.interpolate(maps, (8, 8), mode="bilinear"))

    def test_nan_stays(self):
        maps = torch.full((1, 2, 2, 2), torch.nan)
        assert to_heatmap(maps, (2, 2), "l2").isnan().all()
        assert to_heatmap(maps, (2, 2), "positive_sum").isnan().all()

    def test_unknown_reduction(self):
        with pytest.raises(ValueError, match="`reduce` must be one of positive_sum, sum, l2"):
            to_heatmap(torch.zeros(1, 1, 2, 2), (2, 2), "max")


def test_table_is_keyed_by_name():
    assert all(key == spec.name for key, spec in METHODS.items())


class TestSeveralClasses:
    def test_all(self, model, images):
        everything = Saliency(model).attribute((images,), target="all")
        assert everything[0].shape == (4, 5, 3, 32, 32)
        assert torch.equal(everything[0][:, 3], Saliency(model).attribute(images, target=3))
        assert Saliency(model).attribute(images[:0], target="all").shape == (0, 5, 3, 32, 32)

    def test_soft_masks(self, model, images):
        masks = SIBAttribution(model).soft_mask(images, "all")
        assert masks.shape == (4, 5, 1, 32, 32)
        assert torch.equal(masks[:, 2], SIBAttribution(model).soft_mask(images, 2))

    @pytest.mark.filterwarnings("ignore:The model is in train mode")  # which is the mode that is tested
    def test_all_in_train_mode(self):
        net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).train()
        x = torch.randn(4, 3, 2, 2)
        assert Saliency(net).attribute(x, "all").shape == (4, 3, 3, 2, 2)

    def test_all_with_further_arguments(self, model, images):
        scale = torch.rand(4, 1, 1, 1) + 0.5
        method = Saliency(lambda x, scale: model(x * scale))
        everything = method.attribute(images, target="all", additional_forward_args=scale)
        assert torch.equal(everything[:, 2], method.attribute(images, target=2, additional_forward_args=scale))
        nothing = method.attribute(images[:0], target="all", additional_forward_args=scale[:0])
        assert nothing.shape == (0, 5, 3, 32, 32)

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("every", '`target` must be an integer class index, one per image, or "all"'),
            ([[0, 1], [1], [2], [3]], "`target` must name equally many classes for every image"),
            ([[0, 1]], "`target` must hold 4 lists, one per image"),
            ([[True], [1], [1], [1]], "`target` must be an integer class index"),
        ],
    )
    def test_errors(self, target, message, model, images):
        with pytest.raises(ValueError, match=message):
            Saliency(model).attribute(images, target=target)

    def test_all_needs_classes(self, images):
        with pytest.raises(ValueError, match="`forward_func` must"):
            Saliency(lambda x: x.sum((1, 2, 3))).attribute(images, target="all")


@pytest.fixture
def _old_objects_aside():
    """The half a million objects of imports are not looked at again and again: what leaks is new."""
    gc.freeze()
    yield
    gc.unfreeze()


def _live_tensors():
    gc.collect()
    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())  # isinstance would touch lazy attributes


@pytest.mark.usefixtures("_old_objects_aside")
@pytest.mark.parametrize("name", ["sib", "gradcam", "integrated_gradients"])
def test_memory_is_constant_over_many_calls(name, model):
    method, images = build_method(name, model), torch.randn(1, 3, 16, 16)
    if name == "integrated_gradients":
        method.steps = 2
    counts = []
    for _ in range(2):
        for _ in range(60):  # more than any table of kept results has lines
            method.attribute(images, target=1)
        counts.append((_live_tensors(), sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())))
    assert counts[0] == counts[1]
    assert counts[0][1] == 0


@pytest.mark.parametrize("name", ["saliency", "vjp", "sib", "gradcam"])
def test_nothing_waits_for_a_device(name, model, images):
    targets = torch.tensor([0, 3, 3, 1])
    explain(name, model, images, targets)  # measures where the layer's units look, once
    with Waits() as seen:
        explain(name, model, images, targets)
    assert not seen.found
