"""Methods of one's own, in every form, wherever a method is accepted."""

import dataclasses

import captum.attr
import pytest
import torch

from sibx import METHODS, explain
from sibx.attribution import Explainers, build_method, explain_many, resolve_methods, to_method
from sibx.models import Scored, TinyCNN, find_cam_layer
from tests.helpers.methods import quick_table

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return TinyCNN(5, width=8).eval()


def saliency(model, images, targets):
    images = images.requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).gather(1, targets[:, None]).sum(), images)
    return gradient


class NeedsMore:
    def __init__(self, forward_func, steps):
        self.forward_func = forward_func

    def attribute(self, inputs, target=None):
        return inputs


# What Captum itself says when it is called without us.
as_captum_is = pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already", "ignore:Setting forward")


class TestForms:
    def test_a_function_of_the_model(self, net):
        assert torch.allclose(explain(net, IMAGES, saliency), explain(net, IMAGES, "saliency"))

    @pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
    def test_a_function_may_differentiate_whoever_calls(self, net, guard):
        expected = explain(net, IMAGES, "saliency")
        with guard():
            assert torch.allclose(explain(net, IMAGES.clone(), saliency), expected)

    def test_a_function_of_images_and_targets(self, net):
        def contrast(images, targets):
            return images.abs().mean(1, keepdim=True)

        assert torch.equal(explain(net, IMAGES, contrast), IMAGES.abs().mean(1, keepdim=True))
        assert not to_method(contrast).rebuilds
        assert to_method(saliency).rebuilds

    @as_captum_is
    @pytest.mark.parametrize("name", ["Saliency", "DeepLift", "LayerGradCam", "FeatureAblation"])
    def test_a_class_is_the_same_as_its_instance(self, net, name):
        cls = getattr(captum.attr, name)
        layer = [net.get_submodule(find_cam_layer(net, IMAGES))] if name.startswith("Layer") else []
        targets, small = torch.tensor([0, 1, 4]), IMAGES[:, :, :4, :4] if name == "FeatureAblation" else IMAGES
        instance = cls(net, *layer)
        expected = instance.attribute(small, target=targets).detach()
        by_class, by_instance = (build_method(m, net).attribute(small, target=targets) for m in (cls, instance))
        assert torch.allclose(by_class.detach(), expected)
        assert torch.allclose(by_instance.detach(), expected)

    def test_imported_by_name(self, net, tmp_path, monkeypatch):
        (tmp_path / "my_maps.py").write_text(
            "def halves(model, images, targets):\n    return images[:, :1] * 0 + 0.5\n"
        )
        monkeypatch.chdir(tmp_path)
        assert explain(net, IMAGES, "my_maps:halves").unique().tolist() == [0.5]
        assert to_method("my_maps:halves").name == "halves"
        with pytest.raises(ValueError, match="`method` must be module:name that can be imported, but got 'my_maps:no'"):
            to_method("my_maps:no")

    @pytest.mark.parametrize(
        ("method", "kind", "signed", "needs_layer"),
        [
            (captum.attr.Saliency, "gradient", False, False),
            (captum.attr.InputXGradient, "gradient", True, False),
            (captum.attr.LayerGradCam, "cam", True, True),
            (captum.attr.FeatureAblation, "perturbation", True, False),
            (saliency, None, False, False),
        ],
    )
    def test_what_it_is_can_be_seen_and_changed(self, net, method, kind, signed, needs_layer):
        spec = to_method(method)
        assert (spec.kind, spec.signed, spec.needs_layer) == (kind, signed, needs_layer)
        changed = dataclasses.replace(spec, signed=not signed)
        small = IMAGES[:1, :, :4, :4] if kind == "perturbation" else IMAGES
        assert not torch.equal(explain(net, small, spec), explain(net, small, changed))

    def test_a_noise_tunnel_is_what_it_repeats(self, net):
        spec = to_method(captum.attr.NoiseTunnel(captum.attr.Saliency(net)), model=net)
        assert (spec.kind, spec.signed, spec.name) == ("gradient", False, "NoiseTunnel")
        assert explain(net, IMAGES, spec).shape == (3, 1, 32, 32)

    @pytest.mark.parametrize("target", [3, [3, 3, 3], (3, 3, 3), torch.tensor(3), torch.tensor([3])])
    def test_a_function_gets_one_class_per_image_whatever_form_a_target_has(self, net, target):
        expected = explain(net, IMAGES, saliency, torch.tensor([3, 3, 3]))
        assert torch.equal(explain(net, IMAGES, saliency, target), expected)
        assert torch.equal(explain_many(net, IMAGES, target, [saliency])["saliency-own"].norm(dim=1), expected[:, 0])

    @pytest.mark.parametrize("target", [[3, 3], 1.5, "three", [[1], [2], [3]]])
    def test_a_function_takes_no_other_target(self, net, target):
        with pytest.raises(ValueError, match="`target` must be an int, or one int for each of 3 images"):
            build_method(saliency, net).attribute(IMAGES, target=target)

    @pytest.mark.parametrize("target", ["all", [[1, 2], [0], [3]]])
    def test_several_classes_are_not_one_heatmap(self, net, target):
        with pytest.raises(ValueError, match="`target` must be one class per image"):
            explain(net, IMAGES, "gradcam", target)


class TestOneModel:
    def test_an_instance_of_another_model_is_refused(self, net):
        other = captum.attr.Saliency(TinyCNN(5).eval())
        with pytest.raises(ValueError, match="`method` must explain the model that is given, or a wrapper of it"):
            explain(net, IMAGES, other)

    def test_an_instance_of_a_wrapper(self, net):
        twice = Scored(net, lambda scores: 2 * scores)
        maps = explain(net, IMAGES, captum.attr.Saliency(twice))
        assert torch.allclose(maps, 2 * explain(net, IMAGES, captum.attr.Saliency(net)))

    @as_captum_is
    @pytest.mark.parametrize("make", [captum.attr.InputXGradient, lambda m: captum.attr.Saliency(m.forward)])
    def test_an_instance_moves_to_a_copy_and_stays_as_it_is(self, net, make):
        torch.manual_seed(1)
        other, instance = TinyCNN(5, width=8).eval(), make(net)
        spec = to_method(instance, model=net)
        targets = torch.tensor([0, 1, 2])
        explainers = Explainers(net, [spec])
        before = dict(vars(instance))
        moved = explainers.rebuild(spec, other).attribute(IMAGES, target=targets)
        assert torch.allclose(moved, make(other).attribute(IMAGES, target=targets))
        assert vars(instance) == before

    def test_the_layer_of_an_instance_moves_too(self, net):
        torch.manual_seed(1)
        other = TinyCNN(5, width=8).eval()
        cams = [captum.attr.LayerGradCam(m, m.features) for m in (net, other)]
        moved = Explainers(net, [s := to_method(cams[0], model=net)]).rebuild(s, other)
        maps = [method.attribute(IMAGES, target=0) for method in (moved, cams[1])]
        assert torch.allclose(*maps)

    def test_a_binary_model_is_explained_by_class(self, binary):
        one, two = binary
        targets = torch.tensor([0, 1, 1])
        by_one, by_two = (explain(m, IMAGES, captum.attr.InputXGradient(m), targets) for m in (one, two))
        assert torch.allclose(by_one, 2 * by_two, atol=1e-6)

    def test_an_unknown_function_explains_one_model_only(self, net):
        assert not to_method(captum.attr.Saliency(lambda images: net(images)), model=net).rebuilds


class TestNames:
    def test_names_are_unique_and_sensible(self, net):
        def gradcam(model, images, targets):
            return images[:, :1].abs()

        methods = ["saliency", captum.attr.Saliency, captum.attr.Saliency(net), gradcam, lambda i, t: i[:, :1].abs()]
        names = [s.name for s in resolve_methods(methods, net)]
        assert names == ["saliency", "Saliency", "Saliency-2", "gradcam-own", "function"]
        assert list(explain_many(net, IMAGES, 0, methods)) == names

    def test_a_mapping_gives_names(self, net):
        methods = {"mine": saliency, "theirs": captum.attr.Saliency, "sib": METHODS["sib"]}
        assert [s.name for s in resolve_methods(methods, net)] == list(methods)


class TestRefusals:
    @pytest.mark.parametrize(
        ("method", "message"),
        [
            (3, "`method` must be a key of METHODS, module:name, a MethodSpec, a function .*, but got 3"),
            (torch.nn.ReLU(), "`method` must be a key of METHODS"),
            (dict, "`method` must be a key of METHODS"),
            ("gradcma", "did you mean 'gradcam'"),
            (lambda images: images, r"`method` must be a function \(model, images, targets\) -> maps"),
            (captum.attr.NoiseTunnel, r"instead, such as NoiseTunnel\(Saliency\(model\)\)"),
            (captum.attr.Occlusion, r"need no argument of attribute\(\) .*\['sliding_window_shapes'\]"),
            (NeedsMore, r"be built with the model .*NeedsMore, which needs \['steps'\]"),
        ],
    )
    def test_forms(self, net, method, message):
        with pytest.raises(ValueError, match=message):
            explain(net, IMAGES, method)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda m: m[0], r"return floating-point maps of shape \(3, C, H, W\)"),
            (lambda m: m[:1], r"return floating-point maps of shape \(3, C, H, W\)"),
            (lambda m: m > 0, r"return floating-point maps of shape \(3, C, H, W\)"),
            (lambda m: m[..., ::2], r"return heatmaps of shape \(3, 1, 32, 32\), or attributions of shape \(3, 3, 32"),
            (lambda m: m[:, :1] - 9, "return heatmaps that are at least 0"),
            (lambda m: m / 0, "return finite values, but got 'NaN or inf for 3 of 3'"),
        ],
    )
    def test_maps(self, net, change, message):
        with pytest.raises(ValueError, match=r"`methods\['mine'\]` must " + message):
            explain_many(net, IMAGES, 0, {"mine": lambda images, targets: change(images)})

    def test_a_broken_image_may_have_no_map(self, net):
        broken = IMAGES.clone()
        broken[1, 0, 0, 0] = torch.nan
        maps = explain_many(net, broken, 0, {"mine": lambda images, targets: images})["mine"]
        assert maps.isnan().flatten(1).any(1).tolist() == [False, True, False]


class TestAll:
    def test_what_does_not_apply_is_left_out_with_its_reason(self, net):
        # TinyCNN's SiLU: nothing is guided, and no rule of DeepLIFT reaches it
        message = r"left out: guided_backprop \(.*nn.ReLU.*guided_gradcam.*deeplift \("
        with quick_table(), pytest.warns(UserWarning, match=message):
            maps = explain_many(net, IMAGES[:1], 0, "all")
        attentive = {name for name, spec in METHODS.items() if spec.kind == "attention"}
        assert set(METHODS) - set(maps) == {"guided_backprop", "guided_gradcam", "deeplift", "lrp", "iba"} | attentive
