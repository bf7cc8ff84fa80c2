"""The tab "Explain": a picture, what the networks say about it, and why."""

from typing import TYPE_CHECKING

import gradio as gr

if TYPE_CHECKING:
    from sibx.app.workbench import Workbench


def explain_tab(workbench: "Workbench") -> None:
    """Add the tab to the page that is being made.

    Args:
        workbench: what is worked on.
    """
    gr.Markdown(f"{len(workbench.data)} pictures of {workbench.data.name}")
