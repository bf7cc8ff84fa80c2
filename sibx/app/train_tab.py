"""The tab "Fine-tune": teach the network with the drawn masks, and two controls equally long."""

from typing import TYPE_CHECKING, Any

import gradio as gr

from sibx.app._classroom import Classroom
from sibx.app._events import AT_ONCE, NEWEST
from sibx.app._lesson import BATCH, ELSEWHERE, PICTURES, starts_anew, why_not
from sibx.app._static import html
from sibx.objectives.share import STEPS

if TYPE_CHECKING:
    from sibx.app.workbench import Workbench

EVERY = 2  # seconds between two looks at a training


def train_tab(workbench: "Workbench") -> None:
    """Add the tab to the page that is being made.

    Args:
        workbench: what is worked on.
    """
    reason = why_not(workbench)
    if reason:
        gr.Markdown(reason)
        return
    room = Classroom(workbench)
    gr.Markdown(
        "Three trainings of equal length from the same start: with the drawn masks, with the masks of other pictures, "
        "and without masks. Only what the first gains over both others is owed to the masks. " + starts_anew(workbench)
    )
    counter = html("teaching", room.counted(), elem_id="corrected")
    settings = _settings(room)
    with gr.Accordion("The commands that this runs", open=False):
        commands = html("teaching", room.preview(*[part.value for part in settings]), asked=0, elem_id="commands")
    problem = html("teaching", elem_id="training-problem")
    with gr.Row():
        start = gr.Button("Start", variant="primary", elem_id="start")
        stop = gr.Button("Stop", visible=False, elem_id="stop")
        go_on = gr.Button("Go on", visible=False, elem_id="go-on")
    known = room.trainings()
    chosen = gr.Dropdown(known, value=known[0] if known else None, label="Training", elem_id="training")
    seen = gr.State(None)
    status = html("teaching", asked=0, elem_id="status")
    curves = html("teaching", elem_id="curves")
    epoch = gr.Slider(0, 1, value=0, step=1, label="Maps after epoch", info="0: before the training.", elem_id="epoch")
    maps = html("teaching", elem_id="maps")

    # One event for each part: what is seen is of the training, the epoch and the settings that the page says.
    asks = [gr.Timer(EVERY).tick, chosen.input, epoch.input, status.input]
    looked = [seen, counter, status, stop, go_on, curves, epoch, maps]
    gr.on(asks, room.look, [chosen, epoch, seen], looked, **NEWEST)
    gr.on([*(part.change for part in settings), commands.input], room.preview, settings, commands, **NEWEST)
    start.click(room.start, settings, [problem, chosen, status, commands], **AT_ONCE)
    stop.click(room.stop, chosen, [problem, status], **AT_ONCE)
    go_on.click(room.go_on, chosen, [problem, status], **AT_ONCE)
    # The page may be opened again while one is running.
    gr.on(None, room.newest, None, [chosen, status, commands], **AT_ONCE)


def _settings(room: Classroom) -> list[Any]:
    """Put the settings of a training on the page; a number that is too small is named where the commands are.

    With a minimum Gradio would report an error while 12 is typed, at the 1.
    """
    offered = [(words, name) for name, words in ELSEWHERE.items() if room.masked or name != "given"]
    elsewhere = gr.Radio(offered, value="none", label="Pictures that nobody drew on")
    with gr.Row():
        info = f"Passes over the training pictures. S-IB takes about {STEPS} steps of {BATCH} pictures."
        epochs = gr.Number(room.epochs, precision=0, label="Epochs", info=info)
        train = gr.Number(PICTURES, precision=0, label="Training pictures", info="At most; drawn ones first.")
        test = gr.Number(100, precision=0, label="Held-out pictures", info="At most; to judge by.")
    return [elsewhere, epochs, train, test]
