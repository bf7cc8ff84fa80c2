"""Captum's generated tests for targets and hook removal, with our classes in the place of Saliency and LayerGradCam.

Captum generates both from a table of networks and arguments, which its wheel holds (``captum.testing``); what generates
them is in neither its wheel nor its sdist. Here the same table drives the same checks: a batch with a target per row is
explained as its rows are one by one, and no hook is left behind, whether the call succeeds or fails.
"""

import copy
from contextlib import nullcontext

import captum.attr as captum
import pytest
import torch
from captum.testing.attr.helpers.test_config import config
from torch import Tensor, nn

from sibx.attribution import METHODS

# Left out: methods that ignore the target, those that hide parts of an image, which the table's vectors are not, those
# that read attention, which its networks have not, and those that are fitted to data first.
NOT_HERE = ("attention", "perturbation")
EXPLAINERS = [s for s in METHODS.values() if s.uses_target and s.kind not in NOT_HERE and not s.needs_fit]
OF_IMAGES = ("blur_ig", "low_pass_gradient", "xrai", "fullgrad")  # blur, frequencies, segments, convolutions
# The rules of LRP belong to networks in which every step is a module: tests/attribution/test_lrp.py
FOR_INPUTS = [s.name for s in EXPLAINERS if not s.needs_layer and s.name not in (*OF_IMAGES, "lrp")]
CAMS = [s.name for s in EXPLAINERS if s.needs_layer and s.name != "guided_gradcam"]
GUIDED = ["guided_gradcam"]  # drawn at the input's size, and in the table for its feature map only
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def entries(*algorithms):
    """The table's entries for any of these; not those with baselines, which ours are given when they are built."""
    listed = [e for e in config if {a.__name__ for a in e["algorithms"]} & set(algorithms)]
    return [e for e in listed if "baselines" not in e["attribute_args"]]


def drawn(entry):
    """The entry with random weights: the table's weigh all classes alike, and a mixed-up target would go unseen."""
    model, generator = copy.deepcopy(entry["model"]), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return entry | {"name": f"{entry['name']}_drawn", "model": model}


def with_target_per_row(table):
    return [e for e in table if isinstance(e["attribute_args"]["target"], list | Tensor)]


def cases(table, names):
    return [pytest.param(e, n, id=f"{e['name']}-{n}") for e in table for n in names]


INPUTS = entries("Saliency", "IntegratedGradients")
LAYERS = [e for e in entries("LayerGradCam") if e["layer"] != "multi_relu"]  # a layer with two outputs: last test
# The table's only feature map comes with one target for all rows.
MAP = LAYERS[0] | {"name": "conv_per_row", "attribute_args": LAYERS[0]["attribute_args"] | {"target": [1, 0, 9, 3]}}
INPUTS_PER_ROW, LAYERS_PER_ROW = with_target_per_row(INPUTS), [MAP, *with_target_per_row(LAYERS)]
INPUTS_PER_ROW += [drawn(e) for e in INPUTS_PER_ROW if "noise_tunnel" not in e]
LAYERS_PER_ROW += [drawn(e) for e in LAYERS_PER_ROW]
ROW_CASES = cases(INPUTS_PER_ROW, FOR_INPUTS) + cases(LAYERS_PER_ROW, CAMS) + cases([MAP, drawn(MAP)], GUIDED)
# Captum takes the first entry for a method; here each network has its turn.
HOOK_CASES = cases(INPUTS[:2], FOR_INPUTS) + cases(LAYERS[:3], CAMS) + cases(LAYERS[:1], GUIDED)


class OnPixels(nn.Module):
    """A network on vectors as one on images of one pixel."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *args):
        return self.model(*(a.flatten(1) if isinstance(a, Tensor) else a for a in args))


class Broken(nn.Module):
    def forward(self, *_):
        raise AssertionError("broken")


def each(change, value):
    if isinstance(value, tuple):
        return tuple(each(change, v) for v in value)
    return change(value) if isinstance(value, Tensor) else value


def stage(entry):
    """The entry's network, layer and arguments, copied, in double precision."""
    model, layer, args = (copy.deepcopy(entry.get(key)) for key in ("model", "layer", "attribute_args"))
    tensors = args.keys() & {"inputs", "additional_forward_args"}
    return model.double(), layer, args | {key: each(Tensor.double, args[key]) for key in tensors}


def stage_maps(entry):
    """As ``stage``, but a layer that outputs vectors outputs maps of one pixel."""
    model, layer, args = stage(entry)
    if layer in (None, "conv2"):
        return model, layer, args
    to_map, to_vector = nn.Unflatten(1, (-1, 1, 1)), nn.Flatten()
    model.set_submodule(layer, nn.Sequential(model.get_submodule(layer), to_map, to_vector))
    return OnPixels(model), f"model.{layer}.1", args | {"inputs": each(lambda t: t[..., None, None], args["inputs"])}


def in_tunnel(entry, method):
    return captum.NoiseTunnel(method) if "noise_tunnel" in entry else method


def build(entry, name, model, layer):
    method = METHODS[name].build(model, layer)
    if name in CAMS:
        method.upsample = False  # as LayerGradCam
    return in_tunnel(entry, method)


def hooks(model):
    return {name: [list(getattr(m, kind)) for kind in HOOKS] for name, m in model.named_modules()}


@pytest.mark.parametrize(("entry", "name"), ROW_CASES)
def test_a_batch_is_explained_as_its_rows(entry, name):
    model, layer, args = stage_maps(entry)
    method = build(entry, name, model, layer)
    whole, targets = method.attribute(**args), args["target"]
    batch = len(whole[0] if isinstance(whole, tuple) else whole)
    for rows in (slice(i, i + 1) for i in range(batch)):
        row = {key: each(lambda t, rows=rows: t[rows], args[key]) for key in args if key != "target"}
        # Alone, and as a list of one; a tensor with one target is for all rows.
        for target in (targets[rows.start], targets[rows]) if len(targets) == batch else (targets,):
            alone = method.attribute(**row, target=target)
            torch.testing.assert_close(alone, each(lambda t, rows=rows: t[rows], whole), atol=1e-10, rtol=1e-6)


@pytest.mark.parametrize("broken", ["nothing", "target", "layer", "last module"])
@pytest.mark.parametrize(("entry", "name"), HOOK_CASES)
def test_no_hook_is_left(entry, name, broken):
    model, layer, args = stage_maps(entry)
    if broken == "target":
        args["target"] = (9999,) * 20
    elif broken == "layer":
        model.set_submodule(layer or next(n for n, m in model.named_modules() if isinstance(m, nn.Linear)), Broken())
    elif broken == "last module":
        model.set_submodule([n for n, _ in model.named_modules()][-1], Broken())
    before = hooks(model)
    method = build(entry, name, model, layer)
    errors = r"broken|`target` must have at most"
    with nullcontext() if broken == "nothing" else pytest.raises((AssertionError, ValueError), match=errors):
        method.attribute(**args)
    assert hooks(model) == before


@pytest.mark.parametrize("target", [None, (1, 0)])
@pytest.mark.parametrize("name", FOR_INPUTS)
def test_a_target_too_short_for_the_outputs(name, target):
    method = METHODS[name].build(INPUTS[0]["model"], None)
    with pytest.raises((AssertionError, ValueError), match=r"[Tt]arget|logits"):
        method.attribute(torch.zeros(1, 3), target, additional_forward_args=(None, True))  # outputs (1, 2, 2, 2)


@pytest.mark.parametrize("entry", entries("Saliency"), ids=lambda e: e["name"])
def test_saliency_is_captums(entry):
    model, _, args = stage(entry)
    ours = build(entry, "saliency", model, None).attribute(**args)
    each(Tensor.requires_grad_, args["inputs"])  # else captum warns
    theirs = in_tunnel(entry, captum.Saliency(model)).attribute(**args)
    torch.testing.assert_close(each(Tensor.abs, ours), each(Tensor.detach, theirs))


@pytest.mark.parametrize("entry", [*LAYERS, *LAYERS_PER_ROW], ids=lambda e: e["name"])
def test_grad_cam_is_captums(entry):
    model, layer, args = stage_maps(entry)
    ours = build(entry, "gradcam", model, layer).attribute(**args)
    model, layer, args = stage(entry)
    theirs = captum.LayerGradCam(model, model.get_submodule(layer)).attribute(**args, relu_attributions=True)
    # A tuple of inputs has a tuple of attributions, as everywhere here; Captum's follows the layer.
    ours = ours[0] if isinstance(ours, tuple) else ours
    torch.testing.assert_close(ours.flatten(1), theirs.detach().flatten(1))


@pytest.mark.parametrize("entry", entries("LayerGradCam")[1:], ids=lambda e: e["name"])
def test_inputs_that_are_no_images_are_refused(entry):
    model, layer, args = stage(entry)
    with pytest.raises(ValueError, match=r"`inputs` must be a floating-point tensor of shape \(B, C, H, W\)"):
        build(entry, "gradcam", model, layer).attribute(**args)
    assert not any(kinds for module in hooks(model).values() for kinds in module)
