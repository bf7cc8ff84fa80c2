"""Finding layers: by name, and the one that a CAM is made of by what happens when the model runs."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sibx._checks import check_choice, check_integer, require
from sibx.models.known import Known
from sibx.models.layers import Followed
from sibx.models.layout import Size, is_in_proportion, token_grid
from sibx.models.plain import ACTIVATIONS
from sibx.models.scored import unwrap
from sibx.models.trace import Call, Trace, run_traced, tensors_in

POOLS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.MaxPool2d)
SIDE = 64  # of the image that is tried for a model that says nothing about its images
NEAR = 24  # number of maps before the scores among which the layer usually is; gradients end there


def resolve_layer(
    model: Callable[..., Any], layer: nn.Module | str | None, images: Tensor | int | None = None, *others: Any
) -> nn.Module:
    """Return a layer of the model.

    Args:
        model: the model; a plain function has no names, so that its layer must be given as a module.
        layer: a module, which is returned as it is; its dotted name in the innermost model (see ``unwrap``), with the
            activation function that follows it if that belongs to the layer (``"features:relu"``); ``"stage:-1"``,
            ``"stage:-2"``, ...: the first, second, ... of ``find_cam_layers(model, .., images, *others)``; or None =
            ``"stage:-1"``.
        images: images (B, C, H, W), or the side of one, for None.
        others: further arguments of the model.

    Raises:
        ValueError: a name that is not a module of the model, a stage that it does not have, or no module for a plain
            function.
    """
    if isinstance(layer, nn.Module):
        return layer
    require(isinstance(model, nn.Module), "layer", "be a module (a plain function has no names of layers)", layer)
    assert isinstance(model, nn.Module)
    name = name_layer(model, layer, images, *others)
    modules = dict(unwrap(model).named_modules())
    module, _, function = name.partition(":")
    if function:
        rule = 'be "stage:-1" for the last stage of a model, "stage:-2" for the one before it, and so on'
        require(module != "stage" or module in modules, "layer", rule, layer)
        check_choice("layer", module, tuple(filter(None, modules)))
        check_choice("layer", function, ACTIVATIONS)
        return Followed(modules[module], function)
    check_choice("layer", name, tuple(filter(None, modules)))  # the model itself, named "", is no layer
    return modules[name]


def name_layer(model: nn.Module, layer: str | None, images: Tensor | int | None, *others: Any) -> str:
    """Return the dotted name of a layer, which a stage (``"stage:-2"``) gets for these images."""
    count = stage_of(layer)
    if count is None:
        assert layer is not None
        return layer
    found = find_cam_layers(model, count, images, *others)
    rule = f"be a stage of {type(model).__name__}, which has {len(found)} (find_cam_layers)"
    require(len(found) == count, "layer", rule, layer)
    return found[-1]


def stage_of(layer: object) -> int | None:
    """Return k of ``stage:-k``, 1 of None, which is the last one; None for a layer that need not be looked up."""
    if layer is None:
        return 1
    matched = re.fullmatch(r"stage:-([1-9]\d*)", layer) if isinstance(layer, str) else None
    return int(matched[1]) if matched else None


def find_cam_layer(model: nn.Module, images: Tensor | int | None = None, *others: Any) -> str:
    """Return the name of the layer whose output a CAM should be made of.

    It is the last feature map on the way to the scores, after its last activation: the model runs once on two of the
    images, and of the outputs that are a grid of several cells in the proportions of the image, one for every image,
    that of the module that ends last is taken, if the scores depend on some cell of the grid. Behind the last attention
    of a transformer they depend on the class token alone; what an attention makes of its input for itself (keys,
    values, pairs of positions) is no feature map either, and its input is taken. A module that runs twice is left out.
    An activation function that follows the module belongs to the layer: ``features:relu``.

    So the result does not depend on how an architecture names its parts or what it is made of. It is looked up once for
    every model and shape of the images.

    Args:
        model: the model, which takes images (B, C, H, W).
        images: images, whose size, number of channels and precision matter; the side of an image; or None = the model's
            own size where it has one (``image_size``, ``img_size``, timm's ``pretrained_cfg``, transformers'
            ``config``), else 64.
        others: further arguments of the model.

    Raises:
        ValueError: the model has no such layer; methods then need their ``layer`` argument.

    Example:
        >>> find_cam_layer(build_model("tiny_cnn", num_classes=5))
        'features'
    """
    return find_cam_layers(model, 1, images, *others)[0]


def find_cam_layers(model: nn.Module, count: int, images: Tensor | int | None = None, *others: Any) -> list[str]:
    """Return the names of up to ``count`` layers that a CAM could be made of, the last one first.

    The first is that of ``find_cam_layer``. Before it come the ends of the stages of a convolutional network, each on a
    finer grid than the next: of the maps of another grid the last one through which everything passes that the scores
    know of the image, so that no branch leads around it. Where there is none, as in most transformers, whose maps all
    have one grid, they are the layers that are called as the first one, each in another block. They are looked up once
    for every model, count and shape of the images.

    Args:
        model: the model, which takes images (B, C, H, W).
        count: number of layers, at least 1; a model with fewer has fewer.
        images: images, the side of one, or None, see ``find_cam_layer``.
        others: further arguments of the model.

    Raises:
        ValueError: a count below 1, or a model without such a layer.

    Example:
        >>> find_cam_layers(build_model("tiny_cnn", num_classes=5), 2)
        ['features', 'features.2']
    """
    check_integer("count", count, 1)
    inner = unwrap(model)
    images = images if isinstance(images, Tensor) else image_for(inner, images)
    require(images.ndim == 4 and len(images) > 0, "layer", "be given for inputs other than images (B, C, H, W)", images)
    shapes = (tuple(value.shape[1:]) if isinstance(value, Tensor) else None for value in others)
    case = (count, tuple(images.shape[1:]), images.dtype, *shapes)
    known = _KNOWN.of(inner)
    names = {module: name for name, module in inner.named_modules()}
    if case not in known or any(found.module not in names for found in known[case]):
        exact = torch.autocast(images.device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), exact:
            known[case] = tuple(islice(_look_back(inner, images, others, names), count))
    return [names[found.module] + (f":{found.function}" if found.function else "") for found in known[case]]


class _Found(NamedTuple):
    module: nn.Module
    function: str | None


_KNOWN: Known[tuple[_Found, ...]] = Known()


def _look_back(
    model: nn.Module, images: Tensor, others: Sequence[Any], names: Mapping[nn.Module, str]
) -> Iterator[_Found]:
    """Yield the layer of a CAM, then the candidates before it."""
    rows = [0, min(1, len(images) - 1)]  # two, so that what has one row for all images shows
    picked = [v[rows] if isinstance(v, Tensor) and v.shape[:1] == images.shape[:1] else v for v in others]
    size = (images.shape[2], images.shape[3])
    leaf = images.detach()[rows].requires_grad_()
    trace = run_traced(model, leaf, *picked)
    maps = [c for c in trace.calls if _is_map(c.output, size) and _is_named_once(trace, c)]
    last = _last_reached(trace, maps, size)
    if last is None:
        raise ValueError(
            f"`layer` must be given for {type(model).__name__}: it has no feature map of several cells in the "
            f"proportions of its images {size}, (B, C, h, w) or tokens (B, N, D), so no layer can be chosen for it."
        )
    call = _input_of_attention(trace, last, maps, size)
    yield _Found(call.module, trace.activation_after(call))
    for before in _before(trace, call, maps, leaf, names):
        yield _Found(before.module, trace.activation_after(before))


def _before(
    trace: Trace, last: Call, maps: list[Call], image: Tensor, names: Mapping[nn.Module, str]
) -> Iterator[Call]:
    """Yield the ends of the stages; where there are none, the layers called like the last one."""
    earlier = maps[: maps.index(last)]
    ends = _ends_of_stages(trace, earlier, image, _count(last, (image.shape[2], image.shape[3])))
    called = names[last.module].rpartition(".")[2]
    alike = (c for c in reversed(earlier) if names[c.module].rpartition(".")[2] == called)
    first = next(ends, None)
    yield from alike if first is None else chain([first], ends)


def _ends_of_stages(trace: Trace, earlier: list[Call], image: Tensor, last: int) -> Iterator[Call]:
    """Yield the last map of every other grid, the coarsest first, that no branch leads around."""
    size = (image.shape[2], image.shape[3])
    seen = {last}
    for call in reversed(earlier):
        grid = _count(call, size)
        if grid not in seen and _is_passed_by_all(trace, call, image):
            seen.add(grid)
            yield call


def _is_passed_by_all(trace: Trace, call: Call, image: Tensor) -> bool:
    """Whether there is a way from the scores back to the image, and none that leads around a map."""
    end, reached, missed = call.output.grad_fn, False, False
    left = [t.grad_fn for t in tensors_in(trace.output) if t.grad_fn is not None]
    seen = set(left)
    while left:
        node = left.pop()
        if node is end:
            reached = True
            continue
        missed = missed or getattr(node, "variable", None) is image
        before = {n for n, _ in node.next_functions if n is not None} - seen
        seen |= before
        left += before
    return reached and not missed


def _is_named_once(trace: Trace, call: Call) -> bool:
    return trace.runs[call.module] == 1 and not isinstance(call.module, POOLS)


def _is_map(output: Any, size: Size) -> bool:
    """Whether a module's output is a grid of several cells for each of the two images."""
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.shape[:1] != (2,):
        return False
    if output.ndim == 3:
        grid = token_grid(output, size)
        return grid is not None and grid.height * grid.width > 1
    grids = (output.shape[2:], output.shape[1:3]) if output.ndim == 4 else ()
    return any(is_in_proportion((h, w), size) and h * w > 1 for h, w in grids)


def _last_reached(trace: Trace, maps: list[Call], size: Size) -> Call | None:
    """Return the last of the maps with a cell that the scores depend on.

    Where the scores depend on none (a head of zeros, a saturated softmax), the inputs of the last modules stand for
    them; where nothing depends on anything (no gradients at all), the last map is returned.
    """
    recorded = [c for c in maps if c.output.requires_grad]
    for scalar in _totals(trace) if recorded else ():
        for near in (recorded[-NEAR:], recorded):
            outputs = [c.output for c in near]
            gradients = torch.autograd.grad(scalar, outputs, allow_unused=True, retain_graph=True)
            found = [c for c, g in zip(near, gradients, strict=True) if g is not None and _cells(g, size).any()]
            if found:
                return found[-1]
    return maps[-1] if maps else None


def _totals(trace: Trace) -> Iterator[Tensor]:
    """Yield the sum of the highest scores, then of what every module got, the last first."""
    for source in (trace.output, *(c.inputs for c in reversed(trace.calls))):
        parts = [t.amax(1) if t.ndim > 1 else t for t in tensors_in(source) if t.requires_grad]
        if parts:
            yield torch.stack([part.sum() for part in parts]).sum()


def _cells(values: Tensor, size: Size) -> Tensor:
    """Return the part of an output that belongs to cells of the image."""
    grid = token_grid(values, size) if values.ndim == 3 else None
    return values if grid is None else values[:, grid.extra :]


def _input_of_attention(trace: Trace, call: Call, maps: list[Call], size: Size) -> Call:
    """Return the map that a module got, if the run is one of its parts that makes something for the module alone.

    Keys and values are a function of one cell each of what an attention gets, or are made of it side by side (where
    they are convolutions); pairs of positions are more than it gets.
    """
    is_clear = trace.is_handed_on(call) or not call.output.requires_grad
    parent = None if is_clear else trace.parent_of(call)
    for given in parent.inputs if parent else ():
        storage = given.untyped_storage().data_ptr()  # the module may get a view, without the class token
        makers = [c for c in maps if c.output.untyped_storage().data_ptr() == storage]
        if makers and _is_for_itself(makers[-1], call, maps, size):
            return makers[-1]
    return call


def _is_for_itself(source: Call, call: Call, maps: list[Call], size: Size) -> bool:
    if _count(call, size) > _count(source, size) or _is_pointwise(source.output, call.output):
        return True
    beside = (c.output for c in maps if c.parent == call.parent and c is not call and c.output.requires_grad)
    made_of = (torch.autograd.grad(call.output.sum(), x, allow_unused=True, retain_graph=True)[0] for x in beside)
    return any(gradient is None for gradient in made_of)


def _count(call: Call, size: Size) -> int:
    grid = token_grid(call.output, size) if call.output.ndim == 3 else None
    if grid is not None:
        return grid.height * grid.width
    _, a, b, c = call.output.shape
    return b * c if is_in_proportion((b, c), size) else a * b


def _is_pointwise(source: Tensor, result: Tensor) -> bool:
    """Whether a cell of the result depends on one cell of the source only."""
    middle = result.shape[2 if result.ndim == 4 else 1] // 2
    unit = result[0, :, middle, result.shape[3] // 2] if result.ndim == 4 else result[0, middle]
    weights = torch.arange(1, len(unit) + 1, device=unit.device).cos()  # the plain sum of normalized values is constant
    (gradient,) = torch.autograd.grad((unit * weights).sum(), source, allow_unused=True, retain_graph=True)
    if gradient is None:
        return False
    depends = gradient[0] != 0
    axes = (-1,) if source.ndim == 3 else (0, -1)  # of the channels, first or last
    return min(int(depends.any(axis).sum()) for axis in axes) <= 1


def image_for(model: nn.Module, side: int | None) -> Tensor:
    """Return an image of noise of a size that the model takes."""
    convolution = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if convolution is None:
        raise ValueError(f"`layer` must be given for {type(model).__name__}, which has no convolution.")
    size = (side, side) if side else next(own_sizes(model), (SIDE, SIDE))
    noise = torch.randn(1, convolution.in_channels, *size, generator=torch.Generator().manual_seed(0))
    return noise.to(convolution.weight)


def own_side(model: nn.Module) -> int | None:
    """Return the side of the square images that a model, its parts or its settings name, None if they name none."""
    return next((height for height, width in own_sizes(model) if height == width), None)


def own_sizes(model: nn.Module) -> Iterator[Size]:
    """Yield the sizes (H, W) of images that a model, its parts or its settings name."""
    holders = (*model.modules(), getattr(model, "config", None))
    sizes = [getattr(h, "img_size", None) or getattr(h, "image_size", None) for h in holders]
    settings = getattr(model, "pretrained_cfg", None)
    if isinstance(settings, Mapping) and "input_size" in settings:
        sizes.append(settings["input_size"][-2:])
    for size in sizes:
        if isinstance(size, int):
            yield size, size
        elif isinstance(size, Sequence) and len(size) == 2:
            yield size[0], size[1]
