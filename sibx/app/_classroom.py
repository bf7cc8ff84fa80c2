"""What happens when a visitor does something in the tabs "Fine-tune" and "Prove"."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from sibx._checks import require
from sibx.app import _processes as processes
from sibx.app._corrections import Corrections, corrections_folder
from sibx.app._events import ask_anew
from sibx.app._lesson import TAUGHT, Lesson, build_splits, plan, read_lesson, run_folder, usual_epochs
from sibx.app._processes import State, read_state, trainings_in
from sibx.app._proving import judge
from sibx.app._teaching import (
    commands_html,
    curves_html,
    last_epoch,
    maps_html,
    report_html,
    status_html,
    verdict_html,
)
from sibx.app.workbench import Workbench

Parts = tuple[Any, ...]  # new values of parts of the page
SAME: Parts = (gr.skip(),)  # a part that stays as it is


class Classroom:
    """The handlers; what goes wrong becomes the value of the part for problems.

    Args:
        workbench: what is worked on.
    """

    def __init__(self, workbench: Workbench):
        self._bench, self._out = workbench, workbench.out_dir
        self.masked = not any(data.no_masks for part in ("val", "test") for data in build_splits(workbench, part))
        self._corrections = Corrections(corrections_folder(self._out), build_splits(workbench, "train")[0])

    @property
    def epochs(self) -> int:
        """Number of epochs that the page begins with."""
        return usual_epochs(len(self._corrections.data))

    def trainings(self) -> list[str]:
        """Return the names of all trainings, the newest first."""
        return [path.name for path in reversed(trainings_in(self._out))]

    def preview(self, *settings: Any) -> str:
        """Return the commands of a training with these settings, or why there is none."""
        try:
            lesson = self._lesson(*settings)
        except ValueError as error:
            return _problem(error)
        return commands_html(lesson, processes.next_folder(self._out))

    def newest(self) -> Parts:
        """Choose the newest training; ask for its status, and for the commands of the next one."""
        known = self.trainings()
        return gr.Dropdown(known, value=known[0] if known else None), ask_anew(), ask_anew()

    def start(self, *settings: Any) -> Parts:
        """Start a training; return the problem, or choose it and ask for its status and the next one's commands."""
        try:
            rule = "hold corrected pictures: draw on some first (Correct)"
            require(self._corrections.count > 0, "out", rule, self._corrections.count)
            processes.begin(self._out, self._lesson(*settings))
        except (OSError, ValueError) as error:
            return _problem(error), *SAME * 3
        return "", *self.newest()

    def stop(self, name: str | None) -> Parts:
        """Stop a training; return the problem, and ask for its status."""
        try:
            if name in self.trainings():
                processes.stop(self._folder(str(name)))
        except (OSError, ValueError) as error:
            return _problem(error), ask_anew()
        return "", ask_anew()

    def go_on(self, name: str | None) -> Parts:
        """Go on with a training; return the problem, and ask for its status."""
        try:
            if name in self.trainings():
                processes.go_on(self._out, self._folder(str(name)))
        except (OSError, ValueError) as error:
            return _problem(error), ask_anew()
        return "", ask_anew()

    def look(self, name: str | None, epoch: float, seen: Any) -> Parts:
        """Return what has changed since the last look: a stamp, counter, status, two buttons, curves, epoch, maps.

        Files of a training that cannot be read are named as its status.
        """
        if name not in self.trainings():
            return seen, self.counted(), *SAME * 6
        try:
            return self._look(str(name), int(epoch), seen or {})
        except (OSError, ValueError) as error:
            problem = {"problem": (name, str(error))}
            # What is seen of the training before is not of this one.
            told = SAME * 6 if seen == problem else (_problem(error), *_buttons(State()), "", gr.skip(), "")
            return problem, self.counted(), *told

    def counted(self) -> str:
        """Return how many pictures are corrected."""
        count = self._corrections.count
        words = f"{count} corrected picture{'' if count == 1 else 's'}."
        return Markup("<p data-corrected='{}'>{}</p>").format(count, words)

    def look_again(self) -> Parts:
        """Choose the newest training, ask for its verdict, and for no report."""
        return *self.newest()[:2], None

    def open_report(self, name: str | None) -> Parts:
        """Ask for the report of a training."""
        return ask_anew(), name

    def judged(self, name: str | None, wanted: str | None) -> Parts:
        """Return the verdict, or what cannot be read, what can be downloaded, and the report if it is wanted."""
        folder = self._folder(str(name)) if name in self.trainings() else None
        try:
            verdict = judge(folder) if folder else None
            said = verdict_html(verdict)
            frame = report_html(verdict.page) if verdict and name == wanted else ""
        except (OSError, ValueError) as error:
            verdict, said, frame = None, _problem(error), ""
        network = run_folder(folder, TAUGHT) / "model.pt" if folder else None
        there = network is not None and network.is_file()
        return (
            said,
            gr.Button(visible=verdict is not None),
            gr.DownloadButton(value=str(verdict.page) if verdict else None, visible=verdict is not None),
            gr.DownloadButton(value=str(network) if there else None, visible=there),
            frame,
        )

    def _look(self, name: str, epoch: int, seen: Mapping[str, Any]) -> Parts:
        folder = self._folder(name)
        state, pictures = read_state(folder), (name, *map(len, processes.drawn_maps(folder).values()))
        epochs = (name, *map(len, processes.read_curves(folder).values()))
        stamp = {"state": (name, state), "epochs": epochs, "pictures": pictures}
        changed = {part for part, value in stamp.items() if seen.get(part) != value}
        newer = "pictures" in changed
        shown = last_epoch(folder) if newer else epoch
        parts: Parts = (stamp | {"epoch": shown}, self.counted())
        parts += (status_html(state, read_lesson(folder), folder), *_buttons(state)) if "state" in changed else SAME * 3
        parts += (curves_html(folder),) if "epochs" in changed else SAME
        slider = gr.Slider(0, max(1, shown), value=shown, step=1) if newer else gr.skip()
        return *parts, slider, maps_html(folder, shown) if newer or seen["epoch"] != epoch else gr.skip()

    def _folder(self, name: str) -> Path:
        return self._out / "trainings" / name

    def _lesson(self, elsewhere: Any, epochs: Any, train_images: Any, test_images: Any) -> Lesson:
        numbers = {"epochs": epochs, "train_images": train_images, "test_images": test_images}
        whole = {name: int(value) for name, value in numbers.items() if isinstance(value, int | float)}
        missing = sorted(set(numbers) - set(whole))
        require(not missing, "settings", "have numbers", missing)
        whole["train_images"] = min(whole["train_images"], len(self._corrections.data))
        return plan(self._bench, self.masked, elsewhere=elsewhere, **whole)


def _buttons(state: State) -> Parts:
    """Return the buttons that stop and that go on, each where it does something."""
    return (
        gr.Button(visible=state.status == "running"),
        gr.Button(visible=state.status in ("stopped", "failed")),
    )


def _problem(error: Exception) -> str:
    return Markup("<p role='alert'>{}</p>").format(str(error))
