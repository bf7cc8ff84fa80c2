"""Two networks, two tasks, the same images: does an explanation show the object only to the network that needs it?"""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from sibx._checks import require
from sibx._outputs import Output
from sibx.attribution import Methods
from sibx.datasets.base import MaskedDataset
from sibx.evaluation.results import Results
from sibx.evaluation.runner import evaluate

CONTRAST, DEPENDENCE = "model_contrast", "input_dependence"
Model = Callable[[Tensor], Tensor]


def evaluate_contrast(
    object_model: Model,
    scene_model: Model,
    *,
    objects: MaskedDataset,
    scenes: MaskedDataset,
    bare: MaskedDataset,
    methods: Methods,
    output: Output = "auto",
    layer: str | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Results:
    """Compare the maps of a network that tells objects with those of one that tells scenes, on the same images (BAM).

    The object's weight in a map is the share of the map that lies on it (``foreground_focus``). It should be large in
    the network of objects, small in that of scenes, and there smaller than that of the same place without the object:
    a network of scenes reads the scene, which the object hides.

    Args:
        object_model: images -> logits (B, K) of the classes of ``objects``.
        scene_model: images -> logits of the classes of ``scenes``, of the same architecture and recipe.
        objects: images with masks, labeled by their objects.
        scenes: the same images, labeled by their scenes (``sibx.datasets.SceneDataset``).
        bare: the same scenes without the objects, with the masks of where they were; names and order as above.
        methods: methods that explain, see ``evaluate``.
        output: what the logits are, see ``evaluate``.
        layer: layer that CAM methods look at, by its name; None = ``find_cam_layer``.
        batch_size: images per forward pass.
        workers: number of processes that read the images ahead.
        device: where to compute; None = where each model is.
        seed: seed of everything random.
        progress: whether to show a progress bar on stderr, where that is a terminal.

    Returns:
        Results with two metrics of every image and method, for the classes of the labels. ``model_contrast`` in [-1,
        1]: the object's share of the map of the network of objects, minus that of the network of scenes; higher is
        better, 0 is a map that sees no network; NaN for images that either network gets wrong. ``input_dependence``:
        1 where the network of scenes has less of its map on the object than on the same place without it, else 0; the
        mean is the rate; NaN for images that it gets wrong with or without the object. Undefined maps are NaN.
        ``predicted`` is that of the network of objects for the first, of scenes for the second.

    Raises:
        ValueError: data sets with other images or in another order, or what ``evaluate`` refuses.

    Source: Yang and Kim, arXiv 1907.09701: model contrast score and input dependence rate. Ours: the object's share of
    the map in the place of its mean attribution, so that maps of any scale compare. Its third score, input
    independence, needs a patch that is optimized for every network, and is not here.

    Example:
        >>> data = build_dataset("synthetic", split="test-decorrelated", image_size=32, size=4)
        >>> scenes, bare = (SceneDataset(data, shown=shown) for shown in (True, False))
        >>> model = build_model("tiny_cnn", 8)
        >>> options = {"objects": data, "scenes": scenes, "bare": bare, "methods": "control_center", "progress": False}
        >>> evaluate_contrast(model, model, **options).rows.groupby("metric", observed=True).size().to_dict()
        {'input_dependence': 4, 'model_contrast': 4}
    """
    sets = {"scenes": scenes, "bare": bare}
    for name, data in sets.items():
        require(len(data) == len(objects), name, f"hold the {len(objects)} images of `objects`", len(data))
    cases = ((object_model, objects), (scene_model, scenes), (scene_model, bare))
    found = [
        evaluate(
            model,
            data,
            methods=methods,
            metrics="foreground_focus",
            target="label",
            output=output,
            layer=layer,
            batch_size=batch_size,
            workers=workers,
            device=device,
            seed=seed,
            progress=progress,
        )
        for model, data in cases
    ]
    of_objects, of_scenes, of_bare = (part.rows for part in found)
    for name, rows in (("scenes", of_scenes), ("bare", of_bare)):
        same = rows["image_id"].tolist() == of_objects["image_id"].tolist()
        require(same, name, "hold the images of `objects` in the same order", rows["image_id"].iloc[0])
    difference = of_objects["value"] - of_scenes["value"]
    contrast = of_objects.assign(metric=CONTRAST, value=difference.where(_right(of_objects) & _right(of_scenes)))
    known = (of_scenes["value"] + of_bare["value"]).notna()
    less = (of_scenes["value"] < of_bare["value"]).astype(float).where(known & _right(of_scenes) & _right(of_bare))
    dependence = of_scenes.assign(metric=DEPENDENCE, value=less, dataset=objects.name)
    rows = pd.concat([contrast, dependence], ignore_index=True)
    return Results(rows, found[0].curves, found[0].info | {"metrics": [CONTRAST, DEPENDENCE]})


def _right(rows: pd.DataFrame) -> "pd.Series[bool]":
    return rows["predicted"] == rows["label"]
