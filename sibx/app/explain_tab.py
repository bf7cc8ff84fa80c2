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
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            dropped = gr.File(label="Your own pictures", file_count="multiple", file_types=["image"], height=160)
            order = gr.Dropdown(
                desk.survey.orders(), value=AS_THEY_COME, label="Pictures", info=f"{len(desk.data)} of {desk.data.name}"
            )
            thumbnails = html("thumbnails", asked=0, elem_id="pictures")
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
                    eraser = html("eraser", value="[]", picture="", of=0, elem_id="eraser")
                    fill = gr.Radio(list(FILLS), value="blur", label="Filled with", info="What takes their place.")
                with gr.Column(min_width=280):
                    erased = html("said", elem_id="erased")

    on = Explaining(desk)
    visit = gr.State(Visit(Question(NONE, NONE, "", workbench.methods), desk.survey.order(AS_THEY_COME)))
    shown = [said, eraser, erased, viewer, problem]  # one answer: a second request would take as long again
    thumbnails.select(on.pick, visit, shown, **OFTEN)
    gr.on([part.input for part in asked], on.ask, [visit, *asked], [viewer, problem], **NEWEST)
    rubbed = [visit, eraser, fill, asked[0]]
    gr.on([eraser.input, fill.input, asked[0].input], on.rub, rubbed, erased, **NEWEST)
    gr.on(None, on.begin, visit, [*shown, thumbnails], **AT_ONCE)  # when the page is opened
    dropped.upload(on.drop, [dropped, visit], [*shown, notice, thumbnails], **NEWEST)
    order.input(on.sort, [visit, order], [notice, thumbnails], concurrency_limit=None, show_progress="hidden", **LATEST)
    back.click(on.back, visit, thumbnails, **OFTEN)
    more.click(on.more, visit, thumbnails, **OFTEN)
    # Thumbnails first: what is looked at ahead nobody waits for.
    thumbnails.input(on.strip, visit, thumbnails, **NEWEST).then(on.look_ahead, visit, **NEWEST)


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
