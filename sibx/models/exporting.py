"""A trained network for other programs: a plain state dict, a program of torch.export, ONNX."""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sibx._checks import check_choice, check_integer
from sibx._files import write_atomically
from sibx.models.layers import eval_mode
from sibx.models.scored import unwrap

Form = Literal["state_dict", "torch_export", "onnx"]
BATCHES = 2, 3  # images of the batch that is traced, and of the one that is checked: any number has to work
Run = Callable[[Tensor], Any]


def export_model(
    model: nn.Module,
    path: str | Path,
    to: Form,
    *,
    image_size: int,
    channels: int = 3,
    outputs: Sequence[str] = ("logits",),
) -> float:
    """Write a model for other programs, and compare what was written with the model.

    Batches of any size work. The file appears complete or not at all, and only after the comparison.

    Args:
        model: the model, images (B, C, H, W) -> logits (B, K), on the CPU; it is written in eval mode. It may return
            several tensors with a row per image, as the module of ``export_explained`` does.
        path: file to write.
        to: ``state_dict``: its weights, for ``torch.load`` and ``load_state_dict``; ``torch_export``: a program that
            ``torch.export.load`` reads; ``onnx``: input ``images`` (extra ``onnx``).
        image_size: side of its images in pixels.
        channels: number of their channels.
        outputs: names of what the model returns, which ONNX shows.

    Returns:
        The largest difference between outputs of what was written and of the model, on noise.

    Raises:
        ValueError: an unknown form, a number below 1, or a model that cannot be written so.
        ImportError: the extra ``onnx`` is not installed.
    """
    check_choice("to", to, get_args(Form))
    check_integer("image_size", image_size, 1)
    check_integer("channels", channels, 1)
    generator = torch.Generator().manual_seed(0)
    traced, noise = (torch.randn(n, channels, image_size, image_size, generator=generator) for n in BATCHES)
    with eval_mode(model), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, which says much
        try:
            content, run = WRITERS[to](model, traced, outputs)
        except (ImportError, ValueError):
            raise
        except Exception as error:  # whatever the exporters make of a network that they do not know
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"`model` must be one that {to} can hold, but got {type(model).__name__}: {reason}"
            ) from error
        difference = max(
            float((a - b).abs().max()) for a, b in zip(_parts(run(noise)), _parts(model(noise)), strict=True)
        )
    write_atomically(Path(path), content)
    return difference


def _parts(returned: Any) -> tuple[Tensor, ...]:
    return (returned,) if isinstance(returned, Tensor) else tuple(returned)


def _state(model: nn.Module, *_: object) -> tuple[memoryview, Run]:
    stream = io.BytesIO()
    torch.save(unwrap(model).state_dict(), stream)

    def run(images: Tensor) -> Tensor:
        read = torch.load(io.BytesIO(stream.getvalue()), weights_only=True)
        outputs: Tensor = torch.func.functional_call(unwrap(model), read, images)
        return outputs

    return stream.getbuffer(), run


def _program(model: nn.Module, images: Tensor, _: object) -> tuple[memoryview, Run]:
    batch = torch.export.Dim("batch", min=1)
    stream = io.BytesIO()
    torch.export.save(torch.export.export(model, (images,), dynamic_shapes=({0: batch},)), stream)
    return stream.getbuffer(), torch.export.load(io.BytesIO(stream.getvalue())).module()


def _onnx(model: nn.Module, images: Tensor, outputs: Sequence[str]) -> tuple[bytes, Run]:
    onnx = _import_onnx()
    written = torch.onnx.export(
        model,
        (images,),
        input_names=["images"],
        output_names=list(outputs),
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        dynamo=True,
        verbose=False,
    )
    assert written is not None
    content: bytes = written.model_proto.SerializeToString()
    onnx.checker.check_model(content)
    return content, _reader(content)


WRITERS: dict[Form, Callable[[nn.Module, Tensor, Sequence[str]], tuple[bytes | memoryview, Run]]] = {
    "state_dict": _state,
    "torch_export": _program,
    "onnx": _onnx,
}


def _reader(content: bytes) -> Run:
    """Return what runs an ONNX model: onnxruntime where it is installed, else the slow reference of onnx."""
    try:
        import onnxruntime

        session: Any = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(io.BytesIO(content))
    return lambda images: tuple(map(torch.from_numpy, session.run(None, {"images": images.numpy()})))


def _import_onnx() -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError("ONNX needs onnx and onnxscript: pip install 'sibx[onnx]'") from error
    return onnx
