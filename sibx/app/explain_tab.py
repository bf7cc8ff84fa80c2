"""The tab "Explain": a picture, what the networks say about it, why, and what they say without some of its pixels."""

from typing import TYPE_CHECKING

import gradio as gr

from sibx.app._desk import Desk
from sibx.app._eraser import FILLS
from sibx.app._events import AT_ONCE, LATEST, NEWEST, OFTEN
from sibx.app._handlers import FIRST, Explaining
from sibx.app._opinions import layers_of, offered_methods
from sibx.app._static import html
from sibx.app._survey import AS_THEY_COME
from sibx.app._visit import NONE, Question, Visit

if TYPE_CHECKING:
    from sibx.app.workbench import Workbench

CONTROLS = "A map that a control draws as well, without the network, says nothing about the network."


def explain_tab(workbench: "Workbench") -> None:
    """Add the tab to the page that is being made.

    Args:
        workbench: what is worked on.
    """
    desk = Desk(workbench)
    places = gr.State(desk.survey.order(AS_THEY_COME))
    page = gr.State(0)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            dropped = gr.File(label="Your own pictures", file_count="multiple", file_types=["image"], height=160)
            order = gr.Dropdown(
                desk.survey.orders(), value=AS_THEY_COME, label="Pictures", info=f"{len(desk.data)} of {desk.data.name}"
            )
            thumbnails = html("thumbnails", elem_id="pictures")
            notice = html("said", elem_id="notice")
            with gr.Row():
                back, more = (gr.Button(name, size="sm", min_width=80) for name in ("Back", "More"))
            said = html("said", elem_id="said")
        with gr.Column(scale=3, min_width=320):
            asked = _question(desk, workbench.methods)
            problem = html("said", elem_id="problem")
            viewer = html("viewer", elem_id="viewer")
            gr.Markdown("### Eraser\nBrush pixels away, and see whether the networks needed them.")
            with gr.Row():
                with gr.Column(min_width=280):
                    eraser = html("eraser", value="[]", picture="", elem_id="eraser")
                    fill = gr.Radio(list(FILLS), value="blur", label="Filled with", info="What takes their place.")
                with gr.Column(min_width=280):
                    erased = html("said", elem_id="erased")

    on = Explaining(desk)
    visit = gr.State(Visit(Question(NONE, NONE, "", workbench.methods)))
    shown = [said, eraser, erased, viewer, problem]  # one answer: a second request would take as long again
    thumbnails.select(on.pick, [visit, places, page], shown, **OFTEN)
    gr.on([part.input for part in asked], on.ask, [visit, *asked], [viewer, problem], **NEWEST)
    rubbed = [visit, eraser, fill, asked[0]]
    gr.on([eraser.input, fill.input, asked[0].input], on.rub, rubbed, [erased, problem], **NEWEST)
    turned = [
        gr.on(None, on.begin, visit, shown, **AT_ONCE),  # when the page is opened
        dropped.upload(on.drop, [dropped, visit, places], [*shown, notice, places, page], **AT_ONCE),
        order.input(on.sort, order, [notice, places, page], concurrency_limit=None, show_progress="hidden", **LATEST),
        back.click(on.back, page, page, **AT_ONCE),
        more.click(on.more, [places, page], page, **AT_ONCE),
    ]
    for event in turned:  # thumbnails first: what is looked at ahead nobody waits for
        event.then(on.strip, [places, page], thumbnails, **NEWEST).then(on.look_ahead, [places, page], **NEWEST)


def _question(desk: Desk, methods: tuple[str, ...]) -> list[gr.Dropdown]:
    """Put on the page what is asked: class, rival, layer and methods."""
    network, opinion = desk.networks[0], desk.see(FIRST).opinions[0]
    classes = [(network.label(i), i) for i in range(len(opinion.rates))]
    layers = [(name, name) for name in layers_of(network, opinion.look.images)]
    with gr.Row():
        target = gr.Dropdown(
            [("the predicted class", NONE), *classes], value=NONE, label="Why", info="What to explain."
        )
        rival = gr.Dropdown(
            [("any other", NONE), *classes], value=NONE, label="rather than", info="What to compare with."
        )
        layer = gr.Dropdown([("the last one", ""), *layers], value="", label="Layer", info="Where CAMs look.")
    offered = list(offered_methods().items())
    chosen = gr.Dropdown(offered, value=list(methods), multiselect=True, label="Methods", info=CONTROLS)
    return [target, rival, layer, chosen]
