"""README says what the tables say."""

from pathlib import Path

import pytest

from sibx import DATASETS, METHODS, METRICS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def methods_table():
    """The table of methods, as README has to hold it."""
    lines = ["| key | method | heatmap | class | source |", "|---|---|---|---|---|"]
    for spec in METHODS.values():
        title = spec.title.replace("|", "\\|")
        sign = "positive part of the channel sum" if spec.signed else "L2 norm over channels"
        target = "given" if spec.uses_target else "-"
        lines.append(f"| `{spec.name}` | {title} | {sign} | {target} | {spec.reference} |")
    return "\n".join(lines)


def test_methods_table():
    assert methods_table() in README, methods_table()


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_defined(name):
    assert f"| `{name}` |" in README


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_is_listed(name):
    (line,) = (line for line in README.splitlines() if line.startswith(f"| `{name}` |"))
    assert line.endswith(f" {', '.join(DATASETS[name].splits)} |")
