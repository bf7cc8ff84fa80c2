"""The tab "Prove": what a training has gained on held-out pictures, against its controls."""

from typing import TYPE_CHECKING, Any

import gradio as gr

from sibx.app._classroom import Classroom
from sibx.app._events import AT_ONCE, LATEST
from sibx.app._lesson import why_not
from sibx.app._static import html

if TYPE_CHECKING:
    from sibx.app.workbench import Workbench


def prove_tab(workbench: "Workbench") -> None:
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
        "Judged on pictures that were neither trained nor drawn on. A gain counts when its 95 % interval over these "
        "pictures lies on the better side of 0, against both controls."
    )
    known = room.trainings()
    with gr.Row():
        chosen = gr.Dropdown(known, value=known[0] if known else None, label="Training", elem_id="judged")
        again = gr.Button("Look again", elem_id="look-again")
    verdict = html("teaching", elem_id="verdict")
    with gr.Row():
        opened = gr.Button("Open the report", visible=False, elem_id="open-report")
        report = gr.DownloadButton("Download the report", visible=False, elem_id="download-report")
        network = gr.DownloadButton("Download the network", visible=False, elem_id="download-network")
    frame = html("teaching", elem_id="report")

    judged: dict[str, Any] = {
        "fn": room.judged,
        "inputs": chosen,
        "outputs": [verdict, opened, report, network, frame],
        **AT_ONCE,
    }

    def choices() -> gr.Dropdown:
        known = room.trainings()
        return gr.Dropdown(known, value=known[0] if known else None)

    gr.on([again.click], choices, None, chosen, **AT_ONCE).then(**judged)
    gr.on(None, choices, None, chosen, **AT_ONCE).then(**judged)
    chosen.input(**judged, **LATEST)
    opened.click(room.report, chosen, frame, **AT_ONCE)
