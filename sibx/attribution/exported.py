"""A network and its explanation as one program of torch.export."""

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from sibx._checks import check_images, require
from sibx._outputs import Output, by_class, check_output, predicted
from sibx.attribution.explaining import explain
from sibx.attribution.heatmaps import to_heatmap
from sibx.attribution.method import MethodSpec
from sibx.attribution.own_methods import AnyMethod, to_method
from sibx.attribution.safe import SafeAttribution, undefined_where_broken
from sibx.models.classes import scored_by_class
from sibx.models.failures import say_why
from sibx.models.finding import resolve_layer
from sibx.models.layers import eval_mode
from sibx.models.scored import Scored

TRACED, CHECKED = 2, 3  # images of the batch that is traced, and of the one that is compared: any number has to work
TOLERANCE = 1e-3  # of a difference, in units of the largest value; kernels sum in other orders


def export_explained(
    model: nn.Module,
    example: Tensor,
    method: AnyMethod = "sib",
    *,
    layer: nn.Module | str | None = None,
    output: Output = "auto",
) -> ExportedProgram:
    """Export a network together with one explanation: a program of images -> (logits, heatmaps), for any batch size.

    The program holds the forward pass, the backward pass and the method's own arithmetic as plain operations, so it
    needs neither autograd nor sibx where it runs: ``torch.export.save(program, "explained.pt2")``, then
    ``torch.export.load("explained.pt2").module()(images)``. It explains the predicted class of every image. Before it
    is returned it is compared with the network and with ``explain``, on noise in a batch of another size.

    Args:
        model: the model, images (B, C, H, W) -> logits (B, K), traced in eval mode, on the device of the example.
        example: images (B, C, H, W), normalized as the model expects them, of the channels, height and width that the
            program is to take; their number and their values do not matter.
        method: key of METHODS, or a method of your own that is a SafeAttribution. It has to run the network once, on
            the images themselves, in steps that do not depend on values: of METHODS ``sib``, ``vjp``, ``saliency``,
            ``input_x_gradient``, ``gradcam``, ``gradcam_pp``, ``layercam``, ``hirescam`` and ``xgradcam``.
        layer: module or dotted name, for methods that need a layer; None = ``find_cam_layer``.
        output: what the logits are: ``softmax``, ``sigmoid`` or ``raw``; ``auto`` = ``sigmoid`` for a single logit,
            else ``softmax``.

    Returns:
        The program. Its heatmaps (B, 1, H, W) are those of ``explain``, float32 and at least 0; a row that is not
        finite gets NaN. ``torch.onnx.export`` takes it where the backward pass ends behind the last convolution, as for
        a CAM of the last layer; ONNX has no operation for gradients of convolutions. TorchScript does not take it.

    Raises:
        ValueError: images of another shape, or a model or a method that cannot be traced, or that gives other numbers
            when it was.

    Example:
        >>> model, images = build_model("tiny_cnn", num_classes=5), torch.rand(2, 3, 32, 32)
        >>> program = export_explained(model, images, "gradcam")
        >>> logits, heatmaps = program.module()(torch.rand(7, 3, 32, 32))
        >>> logits.shape, heatmaps.shape
        (torch.Size([7, 5]), torch.Size([7, 1, 32, 32]))
    """
    require(isinstance(model, nn.Module), "model", "be a module", model)
    check_images(example, "example")
    check_output(output)
    spec = to_method(method, model=model)
    with torch.inference_mode(False), eval_mode(model):
        # First the real thing: what is measured once per model (its layer, where units look) is then known.
        noise = torch.randn(CHECKED, *example.shape[1:], generator=torch.Generator().manual_seed(0)).to(example)
        with say_why(model, noise, "example"):
            found = resolve_layer(model, layer, noise) if spec.needs_layer else None
            explained = _Explained(model, spec, found, output)
            heatmaps = explain(model, noise, spec, layer=found, output=output)
            with torch.no_grad():
                logits = model(noise)
        try:
            traced = _trace(explained, example)
            program = torch.export.export(traced, (_batch(example),), dynamic_shapes=({0: Dim("batch", min=1)},))
        except Exception as error:  # whatever tracing makes of a model or a method that it does not know
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise ValueError(
                f"`method` must be one that torch can trace, with its network, but got {spec.name!r} of "
                f"{type(model).__name__}: {reason}"
            ) from error
        _compare(program, noise, {"logits": logits, "heatmaps": heatmaps}, spec.name)
    return program


def _compare(program: ExportedProgram, images: Tensor, own: dict[str, Tensor], method: str) -> None:
    """Require that the program gives what the network and ``explain`` give."""
    with torch.no_grad():
        exported = program.module()(images)
    for values, (name, expected) in zip(exported, own.items(), strict=True):
        largest = float(expected.abs().max())  # 0 of maps that are zero everywhere: so are those of the program
        difference = float((values - expected).abs().max()) / (largest or 1.0)
        rule = f"run the network once, on the images themselves, so that a program gives the same {name}"
        got = f"{method!r}: a difference of {difference:.0e} of the largest value"
        require(difference < TOLERANCE, "method", rule, got)


class _Explained(nn.Module):
    """Images (B, C, H, W) -> logits (B, K) and heatmaps (B, 1, H, W), from one forward pass."""

    def __init__(self, model: nn.Module, spec: MethodSpec, layer: nn.Module | None, output: Output):
        super().__init__()
        self.spec, self.output = spec, output
        seen = Scored(model, self._choose)
        method = spec.build(seen if spec.uses_target else scored_by_class(seen, output), layer)
        require(isinstance(method, SafeAttribution), "method", "be a SafeAttribution", spec.name)
        assert isinstance(method, SafeAttribution)
        self.method = method

    def _choose(self, logits: Tensor) -> Tensor:
        """Keep the logits, and return the score of the predicted class, or the logits for a method of all classes."""
        self.logits = logits
        if not self.spec.uses_target:
            return logits
        return by_class(logits, self.output).gather(1, predicted(logits, self.output).unsqueeze(1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Explain the images."""
        with torch.enable_grad():
            found = self.method._explain((images.detach().requires_grad_(),), None, ())
        (attributions,) = undefined_where_broken((images,), found)
        size = (images.shape[2], images.shape[3])
        return self.logits.detach(), to_heatmap(attributions.detach(), size, self.spec.reduce)


def _batch(example: Tensor) -> Tensor:
    """Return TRACED images: of a batch of one tracing would take the one for granted. Their values do not matter."""
    return example.new_zeros(TRACED, *example.shape[1:])


def _trace(explained: nn.Module, example: Tensor) -> nn.Module:
    """Return the operations that ``explained`` runs, of autograd too, with a batch size that is left open."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)  # the weights stay what they are
    is_open = [DimDynamic.DYNAMIC, *[DimDynamic.STATIC] * (example.ndim - 1)]
    images = mode.from_tensor(_batch(example), symbolic_context=StatelessSymbolicContext(is_open))
    traced = make_fx(explained, tracing_mode="symbolic")(images)
    for name, weight in list(traced.named_parameters()):  # top-level ones: the program is one graph
        delattr(traced, name)
        traced.register_buffer(name, weight.detach())  # the same memory, and nothing for autograd to note
    return traced
