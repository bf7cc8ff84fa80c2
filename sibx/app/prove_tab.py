"""The tab "Prove": what a training has gained on held-out pictures, against its controls."""

from typing import TYPE_CHECKING

import gradio as gr

from sibx.app._classroom import Classroom
from sibx.app._events import AT_ONCE, NEWEST
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
    verdict = html("teaching", asked=0, elem_id="verdict")
    with gr.Row():
        opened = gr.Button("Open the report", visible=False, elem_id="open-report")
        report = gr.DownloadButton("Download the report", visible=False, elem_id="download-report")
        network = gr.DownloadButton("Download the network", visible=False, elem_id="download-network")
    frame = html("teaching", elem_id="report")
    wanted = gr.State(None)  # the training whose report was asked for

    # One event: what is seen is of the training that the page says.
    judged = [verdict, opened, report, network, frame]
    gr.on([chosen.input, verdict.input], room.judged, [chosen, wanted], judged, **NEWEST)
    again.click(room.look_again, None, [chosen, verdict, wanted], **AT_ONCE)
    gr.on(None, room.look_again, None, [chosen, verdict, wanted], **AT_ONCE)
    opened.click(room.open_report, chosen, [verdict, wanted], **AT_ONCE)
