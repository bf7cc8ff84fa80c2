"""Parts of the page that are HTML, styles and scripts of our own."""

from pathlib import Path
from typing import Any

import gradio as gr

STATIC = Path(__file__).parent / "static"


def html(name: str, value: str = "", **options: Any) -> gr.HTML:
    """Put HTML on the page, with the script, the style and the template of a name, of those that there are.

    Args:
        name: name of the files in ``static``.
        value: the HTML, where there is no template.
        **options: further options of ``gradio.HTML``.
    """
    parts = {"html_template": "html", "css_template": "css", "js_on_load": "js"}
    files = {part: STATIC / f"{name}.{ending}" for part, ending in parts.items()}
    texts: dict[str, Any] = {part: file.read_text(encoding="utf-8") for part, file in files.items() if file.exists()}
    return gr.HTML(value, apply_default_css=False, **({"js_on_load": None} | texts), **options)
