"""How a classifier does on adversarial and on corrupted images."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sibx._checks import check_choice, check_range, listed, require
from sibx._outputs import Output
from sibx._seeds import image_seeds
from sibx.datasets.base import MaskedBatch, MaskedDataset, check_dataset
from sibx.evaluation.class_match import match_classes
from sibx.evaluation.conditions import Model, Setting, hits_of
from sibx.evaluation.results import Results
from sibx.images.attacks import STEPS, fgsm, pgd
from sibx.images.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from sibx.models.class_map import ClassMap
from sibx.runs.normalized import warn_of_normalization

Attack = Literal["fgsm", "pgd"]
ATTACKS: tuple[Attack, ...] = get_args(Attack)
EPSILONS = (0.5 / 255, 1 / 255, 2 / 255)  # where networks that were not trained against attacks begin to fail


def evaluate_robustness(
    model: Model,
    dataset: MaskedDataset,
    *,
    attacks: Attack | Sequence[Attack] = ATTACKS,
    epsilons: Sequence[float] = EPSILONS,
    steps: int = STEPS,
    corruptions: str | Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    class_map: ClassMap | None = None,
    output: Output = "auto",
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    seed: int = 0,
    labels: Mapping[str, str] | None = None,
    out_dir: str | Path | None = None,
    resume: bool = False,
    notes: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Results:
    """Classify every image as it is, attacked and corrupted; means are accuracies, higher is better.

    Of several labels per image every label that is there has a row, as in ``evaluate``, and means are recalls.


    Conditions: ``clean``; ``fgsm_<e>`` and ``pgd_<e>`` for epsilon e / 255 (attacks on this very model, on the true
    label); ``gaussian_noise_<s>``, ``defocus_blur_<s>``, ``contrast_<s>``, ``jpeg_compression_<s>`` for severity s; and
    ``corruption_mean``, the mean over corruptions and severities, which unlike the mCE of Hendrycks & Dietterich is
    not divided by AlexNet's. Definitions are in ``sibx.images.attacks`` and
    ``sibx.images.corruptions``. Masks are not looked at.

    A module runs in eval mode, and is left in the mode and on the device it was in, its gradients untouched; starts and
    noise are drawn from seed and image name, so that nothing depends on the batch size.

    Args:
        model: images -> logits (B, K), differentiable for the attacks: a module, or any function.
        dataset: images with their normalization; any number of channels.
        attacks: names of attacks, or one, any of ``fgsm`` and ``pgd``.
        epsilons: largest changes that an attack may make, each in [0, 1], in units of pixel values.
        steps: number of gradient steps of PGD.
        corruptions: names of corruptions, or one, any of ``sibx.images.CORRUPTIONS``.
        severities: severities of the corruptions, each a whole number from 1 to 5.
        class_map: class of the data -> output or several outputs, for a model with other classes, see ``evaluate``.
        output: what the logits are: ``softmax`` or ``sigmoid`` (a single logit has the classes 0 and 1); ``auto`` =
            ``sigmoid`` for a single logit and for several labels per image, else ``softmax``.
        batch_size: images per forward pass.
        workers: number of processes that read the images ahead; 0 = this process reads them. Results are the same.
        device: where to compute; None = where the model is, for a function the CPU.
        seed: seed of everything random.
        labels: values of the ``model`` and ``training`` columns; by default they are empty.
        out_dir: a folder for the results, written batch by batch; see ``evaluate``.
        resume: continue what an interrupted call left in ``out_dir``, see ``evaluate``.
        notes: further entries of ``info`` and ``run.json``.
        progress: whether to show a progress bar on stderr, where that is a terminal.

    Returns:
        Results with one row per image and condition, method ``classifier``: the condition under ``metric``; ``value``
        1 if the label is predicted there, else 0 (a share for ``corruption_mean``). ``predicted`` and ``confidence``
        are those of the clean image, ``target`` is the label.

    Raises:
        ValueError: unknown or repeated names, numbers out of range, an empty data set, ``raw``, or a model whose
            output is not (B, K).

    Source: Goodfellow, arXiv 1412.6572; Madry, arXiv 1706.06083; Hendrycks & Dietterich, arXiv 1903.12261.
    """
    check_dataset(dataset, "dataset")
    warn_of_normalization(model, dataset)
    attacks, corruptions = listed(attacks), listed(corruptions)
    _check(attacks, epsilons, corruptions, severities)
    attacked = {_name(a, 255 * epsilon): (a, epsilon) for a in attacks for epsilon in epsilons}
    corrupted = {_name(c, severity): (c, severity) for c in corruptions for severity in severities}

    matched = match_classes(model, dataset, class_map, output)
    model, dataset, output = matched.model, matched.dataset, matched.output

    def in_pixels(pixels: Tensor) -> Tensor:
        return model(dataset.normalization(pixels))

    def change(batch: MaskedBatch, pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
        for name, (attack, epsilon) in attacked.items():
            if attack == "fgsm":
                yield name, fgsm(in_pixels, pixels, batch.labels, epsilon, output=output)
            else:
                seeds = image_seeds(batch.ids, seed, name)
                yield name, pgd(in_pixels, pixels, batch.labels, epsilon, seeds=seeds, steps=steps, output=output)
        for name, (corruption, severity) in corrupted.items():
            yield name, corrupt(pixels, corruption, severity, image_seeds(batch.ids, seed, name))

    def score(batch: MaskedBatch) -> dict[str, Tensor]:
        pixels = dataset.normalization.inverse(batch.images).clamp(0, 1)
        values = {name: hits_of(in_pixels, changed, batch.labels, output) for name, changed in change(batch, pixels)}
        if corrupted:
            values["corruption_mean"] = torch.stack([values[name] for name in corrupted]).mean(0)
        return values

    setting = Setting(
        matched=matched,
        batch_size=batch_size,
        workers=workers,
        device=device,
        seed=seed,
        labels=labels,
        out_dir=out_dir,
        resume=resume,
        notes=notes,
        progress=progress,
    )
    settings: dict[str, Any] = {"attacks": list(attacks), "epsilons": list(epsilons), "steps": steps}
    settings |= {"corruptions": list(corruptions), "severities": list(severities)}
    return setting.run(lambda _: score, "clean", settings)


def _name(kind: str, strength: float) -> str:
    return f"{kind}_{strength:g}"


def _check(
    attacks: Sequence[str], epsilons: Sequence[float], corruptions: Sequence[str], severities: Sequence[int]
) -> None:
    for attack in attacks:
        check_choice("attacks", attack, ATTACKS)
    for epsilon in epsilons:
        check_range("epsilons", epsilon, 0, 1)
    for corruption in corruptions:
        check_choice("corruptions", corruption, CORRUPTIONS)
    for severity in severities:
        check_range("severities", severity, SEVERITIES[0], SEVERITIES[-1])
    given = {"attacks": attacks, "epsilons": epsilons, "corruptions": corruptions, "severities": severities}
    for argument, values in given.items():
        require(len(set(values)) == len(values), argument, "name none twice", list(values))
