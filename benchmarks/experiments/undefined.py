"""Is it better to leave undefined pixels out of S-IB's terms, or to count them as background or as object?

Takes the study ``carries_over.yaml`` on the two sets whose masks have undefined pixels (Oxford's pets: the trimap's
boundary; MSRC-v2: void), and fine-tunes each starting network with given masks at the recommended share: the same data,
model, recipe, start and seed for all. Test images are classified and explained; their undefined pixels are left out of
the focus in every case. With ``--shown`` it trains nothing and writes the tables of a CSV that is there for ``docs``.

    python benchmarks/experiments/undefined.py --root DATA --weights FILE --seeds '[0, 1, 2]' --out results/undefined
    python benchmarks/experiments/undefined.py --shown benchmarks/experiments/undefined.csv

Every finished training is a line of ``undefined.csv`` and not repeated.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from baseline_settings import checkpoint
from jsonargparse import auto_cli
from shares import METHODS, STUDY, judge, load
from shares_shown import SHOWN, marked

from sibx import fine_tune
from sibx.datasets import InMemoryDataset, collate
from sibx.evaluation import mean_over_seeds
from sibx.objectives import Given, Shuffled, SIBConfig
from sibx.studies import Study

OPTIONS = {"oxford-pets": {"boundary": "undefined"}, "msrc-v2": {"void": "undefined"}}
PAGES = Path(__file__).parents[2] / "docs" / "experiments" / "tables"
FORMS = ("cross-entropy", "left out", "background", "object", "left out, shuffled")
KEY = ["dataset", "seed", "undefined"]
EXPLAINED = 100  # test images, spread over those that are classified


def main(
    root: str = "",
    weights: str = "default",
    seeds: list[int] = [0],  # noqa: B006 (read only)
    forms: list[str] = list(FORMS),  # noqa: B006 (read only)
    out: Path = Path("results/undefined"),
    shown: Path | None = None,
) -> None:
    """Do the trainings that are not in the CSV yet; or write the tables.

    Args:
        root: folder of the data sets.
        weights: what the model starts with.
        seeds: of weights and order.
        forms: what undefined pixels count as; default every form.
        out: folder for ``undefined.csv`` and the starting networks.
        shown: a CSV to make tables of.
    """
    torch.set_num_threads(1)
    if shown is not None:
        table = pd.read_csv(shown)
        table["focus"] = table[list(METHODS)].mean(axis=1)
        levels(table).to_csv(PAGES / "undefined.csv", lineterminator="\n")
        gains(table).to_csv(PAGES / "undefined_gains.csv", lineterminator="\n")
        return
    settings: dict[str, Any] = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    study = Study(**settings | {"weights": weights, "options": OPTIONS})
    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for dataset in OPTIONS:
            run_set(study, dataset, root, seed, forms, out)


def run_set(study: Study, dataset: str, root: str, seed: int, forms: list[str], out: Path) -> None:
    """Do one set's trainings of one seed."""
    file, (model,) = out / "undefined.csv", study.models
    lines: list[dict[Any, Any]] = pd.read_csv(file).to_dict("records") if file.is_file() else []
    done = {tuple(line[name] for name in KEY) for line in lines}
    splits, recipe = load(study, dataset, root), study.recipe_for(model)
    start = checkpoint(study, splits["train"], seed, out / f"{dataset}-seed-{seed}.pt").eval()
    for form in forms:
        if (dataset, seed, form) in done:
            continue
        masks = Shuffled(Given()) if form.endswith("shuffled") else Given()
        given = replace(SIBConfig.recommended("given", recipe.layers or "auto"), masks=masks)
        config = replace(recipe.tune, objective=None if form == "cross-entropy" else given, seed=seed)
        torch.manual_seed(seed)
        result = fine_tune(start, counted(splits["train"], form), config=config, progress=False)
        scores = judge(result.model.eval(), splits["test"], explained=True, most=EXPLAINED)
        lines.append({"dataset": dataset, "seed": seed, "undefined": form} | scores | {"seconds": result.seconds})
        print(lines[-1], flush=True)
        pd.DataFrame(lines).to_csv(file, index=False, float_format="%.4f")


def counted(data: InMemoryDataset, form: str) -> InMemoryDataset:
    """Return the images with their undefined pixels counted as the form says."""
    whole = collate(data.samples)
    others = {"background": whole.masks, "object": whole.masks | whole.undefined}
    return data.with_masks(others[form]) if form in others else data


def levels(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds of every set and form, and over how many seeds it is."""
    groups = table.groupby(["dataset", "undefined"], sort=False)
    means = groups[list(SHOWN)].mean().map("{:.3f}".format).rename(columns=SHOWN)
    means["seeds"] = groups["seed"].nunique().astype(str)
    order = [(dataset, form) for dataset in OPTIONS for form in FORMS if (dataset, form) in means.index]
    means = means.loc[order]
    return means.set_axis([": ".join(names) for names in means.index]).rename_axis("set: undefined pixels are")


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Return what leaving undefined pixels out gains over every other form, paired over seeds, with 95 % intervals."""
    lines: dict[str, dict[str, str]] = {}
    for dataset in OPTIONS:
        forms = {f: part.set_index("seed") for f, part in table[table["dataset"] == dataset].groupby("undefined")}
        for other in (form for form in FORMS if form in forms and form != "left out"):
            found = (forms["left out"][list(SHOWN)] - forms[other][list(SHOWN)]).dropna()
            means = {title: mean_over_seeds(found[name].to_numpy()) for name, title in SHOWN.items()}
            lines[f"{dataset}: left out - {other}"] = {title: marked(mean) for title, mean in means.items()}
    return pd.DataFrame(lines).T.rename_axis("set: claim")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
