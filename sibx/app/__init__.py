"""The workbench: see in the browser where a network looks, on the user's own machine (extra ``app``).

``Workbench`` says what is worked on, ``build_app`` makes the page, ``serve`` shows it. Each tab of the page has a
module with a function of its name, which alone imports Gradio; what computes lies in modules without it.
"""

from sibx.app.networks import Network
from sibx.app.workbench import Workbench, build_app, serve

__all__ = ["Network", "Workbench", "build_app", "serve"]
