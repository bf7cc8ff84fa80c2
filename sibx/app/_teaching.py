"""What the tabs "Fine-tune" and "Prove" say, as HTML with names escaped."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from sibx.app._lesson import PLAIN, SHUFFLED, TAUGHT, TRAININGS, Lesson, as_typed
from sibx.app._processes import State, drawn_maps, read_curves
from sibx.app._proving import Verdict
from sibx.report import training_panel

QUANTITIES = ("val_accuracy", "val_foreground_focus", "total")  # of the log, where it has them
TITLES = {
    TAUGHT: "with the drawn masks (sib)",
    SHUFFLED: "with the masks of other pictures (sib-shuffled)",
    PLAIN: "without masks (ce)",
}
STATUS = {
    "not begun": "Not begun.",
    "running": "Running",
    "stopped": "Stopped",
    "failed": "Failed",
    "finished": "Finished.",
}


def commands_html(lesson: Lesson, folder: Path) -> str:
    """Return the commands of a training, as they are typed."""
    lines = Markup("\n").join(as_typed(command) for command in lesson.commands(folder))
    return Markup("<pre tabindex='0'>{}</pre>").format(lines)


def status_html(state: State, lesson: Lesson, folder: Path) -> str:
    """Return how far a training has come."""
    commands = lesson.commands(folder)
    words = STATUS[state.status]
    if state.status in ("running", "stopped", "failed"):
        step = "writing the pictures" if state.done == 0 else _in_short(commands[min(state.done, len(commands)) - 1])
        words += f": step {state.done + 1} of {1 + len(commands)}, {step}."
    if state.status in ("stopped", "failed"):
        words += f" Go on does its unfinished {'epoch' if 'finetune' in words else 'step'} again."
    if state.status == "running" and not state.process:
        words = "Starting."
    said = Markup("<pre>{}</pre>").format(state.said) if state.said else ""
    return Markup("<p role='status' data-status='{}'>{}</p>{}").format(state.status, words, said)


def curves_html(folder: Path) -> str:
    """Return the curves of all trainings, epoch by epoch, as far as they have come."""
    curves = read_curves(folder)
    found = [name for name in QUANTITIES if any(name in line for lines in curves.values() for line in lines)]
    pictures = [_picture(training_panel(curves, name), name.replace("_", " ")) for name in found]
    return Markup("<div class='curves'>{}</div>").format(Markup("").join(pictures)) if found else ""


def last_epoch(folder: Path) -> int:
    """Return the number of the last epoch of which maps are drawn; 0 = those before the first."""
    return max((len(paths) - 1 for paths in drawn_maps(folder).values()), default=0)


def maps_html(folder: Path, epoch: int) -> str:
    """Return the maps of the same pictures in every training after an epoch, or the last one before it."""
    figures = []
    for name, paths in drawn_maps(folder).items():
        path = paths[min(epoch, len(paths) - 1)]
        uri = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
        title = f"{TITLES[name]}, epoch {min(epoch, len(paths) - 1)}"
        form = "<figure><figcaption>{}</figcaption><img alt='maps {}' src='{}'></figure>"
        figures.append(Markup(form).format(title, title, uri))
    return Markup("<div class='maps'>{}</div>").format(Markup("").join(figures)) if figures else ""


def verdict_html(verdict: Verdict | None) -> str:
    """Return what a training has shown, or that it has shown nothing."""
    if verdict is None:
        return Markup("<p role='status'>No training has been judged yet. Fine-tune first.</p>")
    rows = [(line.against, line.claim, line.status, line.words) for line in verdict.lines]
    table = _table(("against", "claim", "verdict", "difference [95 % interval]"), rows)
    worst = ""
    if verdict.worst_groups:
        groups = [(TITLES[name], verdict.worst_groups[name]) for name in TRAININGS if name in verdict.worst_groups]
        worst = Markup("<h3>Worst group</h3>") + _table(("training", "accuracy [95 % interval]"), groups)
    shown = "shown" if verdict.shown else "nothing"
    return Markup("<p role='status' class='verdict' data-verdict='{}'>{}</p>{}{}").format(
        shown, verdict.words, table, worst
    )


def report_html(page: Path) -> str:
    """Return a report inside a frame that can reach nothing of the page around it."""
    text = page.read_text(encoding="utf-8")
    return Markup("<iframe title='The report' sandbox='allow-scripts' srcdoc='{}'></iframe>").format(text)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    heads = Markup("").join(Markup("<th scope='col'>{}</th>").format(name) for name in head)
    lines = [Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row) for row in rows]
    body = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in lines)
    return Markup("<div class='wide'><table><tr>{}</tr>{}</table></div>").format(heads, body)


def _in_short(command: Sequence[str]) -> str:
    """Return which command it is, and of which training."""
    of = next((name for name in TRAININGS if Path(command[-1]).name == name), "")
    return f"{command[0]} {of}".strip()


def _picture(figure: Figure, title: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, dpi=110, format="png")
    uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Markup("<img alt='{} over epochs' src='{}'>").format(title, uri)
