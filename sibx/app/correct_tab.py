"""The tab "Correct": draw where the network should look, and where not."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from sibx.app._corrections import Corrections, corrections_folder
from sibx.app._easel import Easel
from sibx.app._events import LATEST
from sibx.app._handlers import sorting
from sibx.app._lesson import build_splits, why_not
from sibx.app._static import html
from sibx.app._strokes import RESTS
from sibx.app._survey import AS_THEY_COME, FOLDER, Survey

if TYPE_CHECKING:
    from sibx.app.workbench import Workbench


def correct_tab(workbench: "Workbench") -> None:
    """Add the tab to the page that is being made.

    Args:
        workbench: what is worked on; drawn is on the pictures that its network is trained on.
    """
    reason = why_not(workbench)
    if reason:
        gr.Markdown(reason)
        return
    folder, data = corrections_folder(workbench.out_dir), build_splits(workbench, "train")[0]
    easel = Easel(Corrections(folder, data))
    survey = Survey(workbench.networks, data, workbench.knows_labels, workbench.out_dir / FOLDER)

    def draw(asked: Any) -> dict[str, Any]:
        return easel.answer(asked)

    def sort(order: str) -> Iterator[tuple[str, Any]]:
        for said, places in sorting(survey, order):
            yield said, gr.skip() if places is None else gr.HTML(order=json.dumps(places))

    gr.Markdown(
        "Mark where the network should look (here) and where not. Drawn is on training pictures alone, so that what is "
        f"proved later is proved on others. Every stroke is kept at once, in `{folder}`"
    )
    orders, about = survey.orders(), f"{len(data)} training pictures"
    order = gr.Dropdown(orders, value=AS_THEY_COME, label="Order", info=about, visible=len(orders) > 1)
    notice = html("said", elem_id="sorted")
    rests = {value: f"{words}" for value, words in RESTS.items()}
    board = html("easel", elem_id="easel", server_functions=[draw], rests=rests, order="")
    order.input(sort, order, [notice, board], concurrency_limit=None, show_progress="hidden", **LATEST)
