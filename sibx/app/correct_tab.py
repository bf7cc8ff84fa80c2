"""The tab "Correct": draw where the network should look, and where not."""

from typing import TYPE_CHECKING, Any

import gradio as gr

from sibx.app._corrections import Corrections, corrections_folder
from sibx.app._easel import Easel
from sibx.app._lesson import build_splits, why_not
from sibx.app._static import html
from sibx.app._strokes import RESTS

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
    folder = corrections_folder(workbench.out_dir)
    easel = Easel(Corrections(folder, build_splits(workbench, "train")[0]))

    def draw(asked: Any) -> dict[str, Any]:
        return easel.answer(asked)

    gr.Markdown(
        "Mark where the network should look (here) and where not. Drawn is on training pictures alone, so that what is "
        f"proved later is proved on others. Every stroke is kept at once, in `{folder}`"
    )
    rests = {value: f"{words}" for value, words in RESTS.items()}
    html("easel", elem_id="easel", server_functions=[draw], rests=rests)
