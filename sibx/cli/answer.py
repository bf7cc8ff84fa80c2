"""What a model says about a picture, and why."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sibx._checks import require
from sibx._outputs import probabilities
from sibx.attribution import explain_many, to_heatmap
from sibx.cli.question import Question

SHOWN = 3  # number of classes that are named, the most probable ones


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a model says about a picture.

    Attributes:
        pixels: the part of the picture that it saw, (1, 3, H, W) in [0, 1].
        title: the class explained and its probability.
        words: the most probable classes, the class explained and the size that was seen.
        heatmaps: title of a method -> its map on the picture, (1, 1, H, W).
        attributions: key of a method -> its attributions (C, h, w) at the size that was seen.
    """

    pixels: Tensor
    title: str
    words: str
    heatmaps: dict[str, Tensor]
    attributions: dict[str, np.ndarray]


def answer(question: Question, pixels: Tensor) -> Answer:
    """Explain a picture (3, H, W) in [0, 1].

    Raises:
        ValueError, RuntimeError, AssertionError: a picture that the network does not take.
    """
    seen, images, logits = question.eye.look(pixels, question.fit)
    found = probabilities(logits, question.eye.output)[0]
    require(not bool(found.isnan().any()), "model", "give finite scores of the picture", logits[0])
    top = found.topk(min(SHOWN, len(found))).indices.tolist()
    target = top[0] if question.target is None else question.target
    maps = explain_many(
        question.eye.model,
        images,
        target,
        question.methods,
        question.layer,
        output=question.eye.output,
        align=question.align,
    )
    height, width = seen.pixels.shape[1:]
    predictions = ", ".join(f"{question.label(i)} ({found[i]:.3f})" for i in top)
    return Answer(
        pixels=seen.shown[None],
        title=f"{question.label(target)} ({found[target]:.3f})",
        words=f"{predictions}; explained: {question.label(target)}; seen at {width} x {height} px",
        heatmaps={
            s.title: seen.back(to_heatmap(maps[s.name], (height, width), s.reduce).cpu()) for s in question.methods
        },
        attributions={name: values[0].cpu().numpy() for name, values in maps.items()},
    )
