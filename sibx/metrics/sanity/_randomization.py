"""Sanity: does the heatmap change when the model's parameters are drawn again?

A map that stays the same does not explain the model. The functions explain again, by callables that they are handed;
the user's model is copied and stays untouched. Everything random depends on the seed, never on the batch.
"""

import copy
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sibx._checks import check_choice, check_explained, check_integer, require
from sibx.metrics.explained import Explained
from sibx.metrics.sanity.copies import ExplainWith, check_inputs, rebuildable
from sibx.metrics.similarity import Similarity, compare
from sibx.metrics.spec import MetricSpec
from sibx.models._redraw import layers_inside, parameter_layers, redraw
from sibx.models.failures import say_why
from sibx.models.layers import eval_mode

Order = Literal["cascading", "independent"]
STAGES = 10  # of the cascade in the table: what that costs should not grow with the depth of the network


class Randomization(NamedTuple):
    """What became of the heatmaps as layers were drawn again.

    Attributes:
        layers: names of the modules whose own parameters are drawn again, for each of the S stages.
        fractions: (S + 1,) float64, share of the layers drawn again so far, from 0 to 1; for ``independent`` the
            position of the stage.
        similarities: (B, S + 1) float64, the first column is that of the heatmaps with themselves.
        score: (B,) float64, mean similarity over the S stages.
    """

    layers: tuple[tuple[str, ...], ...]
    fractions: Tensor
    similarities: Tensor
    score: Tensor


def randomization(
    model: nn.Module,
    explain_with: ExplainWith,
    images: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    order: Order = "cascading",
    layers: Sequence[str] | None = None,
    stages: int | None = None,
    similarity: Similarity = "spearman",
    seed: int = 0,
) -> Randomization:
    """Similarity of the heatmaps to those of models whose parameters are drawn again, from the head down.

    ``cascading``: a stage keeps what the ones before have drawn, so the last model is random throughout;
    ``independent``: each stage starts from the trained model. Range [-1, 1], lower is better: 1 is a map that does not
    see the parameters (every model-free control), about 0 one that forgets all of the trained map.

    Args:
        model: images -> logits (B, K); copied.
        explain_with: model -> function (images, targets) -> heatmaps.
        images: (B, C, H, W), normalized.
        heatmaps: (B, 1, H, W), at least 0, of the model itself.
        targets: (B,) the class explained, at all stages the same.
        order: ``cascading`` or ``independent``.
        layers: names of modules in the order of their stages; the parameters of everything inside them are drawn.
            None = all modules that hold parameters, in reverse of the order in which they run.
        stages: at most so many; the layers are then dealt out evenly. None = one for each layer, as published.
        similarity: ``spearman`` or ``ssim``.
        seed: seed of the random parameters; what a layer gets depends on it and the layer's name only.

    Returns:
        Randomization. A similarity is NaN where one of the maps is not finite or the model's own is zero everywhere,
        with ``spearman`` also where that is constant; the score is where one of them is.

    Raises:
        ValueError: a model that is no module or has no parameters, an unknown name, ``stages`` below 1, a wrong shape
            or dtype, or ``explain_with`` that does not give heatmaps.

    Source: Adebayo et al., arXiv 1810.03292. Ours: layers in the order in which they run, not in which they are listed;
    parameters of modules without an initialization of their own keep mean and standard deviation; no HOG.
    """
    check_choice("order", order, ("cascading", "independent"))
    check_inputs(model, images, heatmaps, targets)
    with eval_mode(model):
        groups = _deal(_blocks(model, images, layers), stages)
        similarities, changed = [compare(similarity, heatmaps, heatmaps)], model
        for group in groups:
            if order == "independent" or changed is model:
                changed = copy.deepcopy(model)
            redraw(changed, group, seed)
            others = check_explained(explain_with(changed)(images, targets), images, "explain_with")
            similarities.append(compare(similarity, heatmaps, others.to(heatmaps.device)))
    done = torch.tensor([0, *(len(g) for g in groups)], dtype=torch.float64).cumsum(0)
    columns = torch.stack(similarities, 1)
    return Randomization(tuple(groups), done / done[-1], columns, columns[:, 1:].mean(1))


def _randomization(e: Explained) -> Tensor:
    """Return the score, leave the similarity at every stage."""
    model, explain_with = rebuildable(e)
    found = randomization(model, explain_with, e.images, e.heatmaps, e.targets, stages=STAGES, seed=e.seed)
    e.keep("randomization", found.fractions, found.similarities)
    return found.score


RANDOMIZATION = MetricSpec(
    name="randomization",
    title="Parameter randomization",
    formula="mean rank correlation of a with the maps of models whose layers are drawn again, from the head down",
    score=_randomization,
    higher_is_better=False,
    bounds=(-1.0, 1.0),
    chance="1 for a map that does not see the parameters",
    needs_model=True,
    needs_module=True,
    reference="Adebayo 2018, arXiv 1810.03292",
)


def _blocks(model: nn.Module, images: Tensor, layers: Sequence[str] | None) -> list[list[str]]:
    """What is drawn together, first to last: each layer by itself, or all of each module that was asked for."""
    if layers is None:
        with say_why(model, images):
            return [[name] for name in parameter_layers(model, images)[::-1]]
    require(len(layers) > 0, "layers", "name at least one module", layers)
    blocks = [layers_inside(model, name) for name in layers]
    require(all(blocks), "layers", "name modules that hold parameters", layers)
    return blocks


def _deal(blocks: list[list[str]], stages: int | None) -> list[tuple[str, ...]]:
    """Put the blocks into at most ``stages`` runs of nearly equally many."""
    check_integer("stages", 1 if stages is None else stages, 1)
    count = len(blocks) if stages is None else min(stages, len(blocks))
    cuts = [round(i * len(blocks) / count) for i in range(count + 1)]
    return [tuple(chain.from_iterable(blocks[first:last])) for first, last in pairwise(cuts)]
