"""The workbench and its page: what is worked on, the page made of its tabs, and the server, for this machine alone."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import SO_REUSEADDR, SOL_SOCKET, socket
from typing import TYPE_CHECKING, Any

from sibx._checks import check_integer, require
from sibx.app._guard import HERE, OwnPageAlone
from sibx.app.networks import Network
from sibx.attribution import resolve_methods
from sibx.datasets import MaskedDataset
from sibx.datasets.base import check_dataset

if TYPE_CHECKING:
    import gradio as gr

LARGEST_UPLOAD = "50mb"
MOST_VISITS = 20  # pages that are open or were reloaded, of which the server knows what they look at
# Fonts that the system has: a page that asks for others would ask another host for them.
FONTS = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")
PURPOSE = "See where the network looks, draw where it should look, fine-tune it, and see what that gained."
STYLE = ":is(#notice, #problem, #sorted):not(:has(p)) { display: none }"  # nothing to say takes no place


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workbench:
    """What is worked on in the browser.

    Attributes:
        networks: the network, or two that are compared, which have different names.
        data: pictures to pick from; a label of -1 is unknown.
        methods: keys of METHODS that the page explains with in the beginning.
        options: words of the command line that name the data, such as ``("--dataset", "folder", "--root", "data")``;
            () for pictures that no command can name.
        out_dir: folder of everything that is written: corrections, trainings, and what was computed and is kept.

    Raises:
        ValueError: no network, two of one name or of different classes, an unknown method, or data that is no data set
            of sibx.
    """

    networks: tuple[Network, ...]
    data: MaskedDataset
    methods: tuple[str, ...] = ("sib", "gradcam", "control_center")
    options: tuple[str, ...] = ()
    out_dir: Path = Path("sibx-workbench")

    def __post_init__(self) -> None:
        names = [network.name for network in self.networks]
        require(0 < len(set(names)) == len(names), "networks", "be one or two of different names", names)
        require(len(names) <= 2, "networks", "be one, or two that are compared", names)
        classes = [network.classes and tuple(network.classes) for network in self.networks]
        require(len(set(classes)) == 1, "networks", "have the same classes", [c and c[:5] for c in classes])
        check_dataset(self.data, "data")
        resolve_methods(self.methods)

    @property
    def knows_labels(self) -> bool:
        """Whether the data's labels are classes of the networks: only then is a prediction right or wrong."""
        return all(tuple(network.classes or ()) == tuple(self.data.classes) for network in self.networks)


def build_app(workbench: Workbench) -> "gr.Blocks":
    """Return the page of a workbench, a ``gradio.Blocks`` that ``serve`` shows.

    Raises:
        ImportError: Gradio is not installed.
    """
    gr = _gradio()
    with gr.Blocks(title="sibx workbench", analytics_enabled=False) as page:
        gr.Markdown(f"# sibx workbench\n{PURPOSE}")
        for title, tab in _tabs().items():
            with gr.Tab(title):
                tab(workbench)
    return page


def _tabs() -> dict[str, Callable[[Workbench], None]]:
    """Return the tabs in their order; imported here, because they need Gradio."""
    from sibx.app.correct_tab import correct_tab
    from sibx.app.explain_tab import explain_tab
    from sibx.app.prove_tab import prove_tab
    from sibx.app.train_tab import train_tab

    return {"Explain": explain_tab, "Correct": correct_tab, "Fine-tune": train_tab, "Prove": prove_tab}


@contextmanager
def serve(workbench: Workbench, *, port: int | None = None) -> Iterator[str]:
    """Serve the page of a workbench on this machine alone, as long as the block runs; yields the page's address.

    It is bound to 127.0.0.1, asks no other host for anything, answers no other page, and serves no file but those below
    ``out_dir``.

    Args:
        workbench: what is worked on.
        port: port of the server; None = the first free one from 7860 on.

    Raises:
        ImportError: Gradio is not installed.
        ValueError: a port that no machine has.
        OSError: the port is taken.
    """
    gr = _gradio()
    from starlette.middleware import Middleware  # Gradio's own

    _check_free(port)
    with tempfile.TemporaryDirectory(prefix="sibx-uploads-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads  # what visitors drop; read when the page is made
        page = build_app(workbench)
        _, address, _ = page.launch(
            server_name=HERE,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            allowed_paths=[str(workbench.out_dir.resolve())],
            max_file_size=LARGEST_UPLOAD,
            state_session_capacity=MOST_VISITS,
            footer_links=[],
            run_history=False,  # it would keep every answer in the browser, and write all of them again at each
            ssr_mode=False,
            app_kwargs={"middleware": [Middleware(OwnPageAlone)]},
            css=STYLE,
            theme=gr.themes.Base(font=_fonts(gr, FONTS), font_mono=_fonts(gr, MONOSPACE)),
        )
        try:
            yield str(address)
        finally:
            page.close(verbose=False)


def _check_free(port: int | None) -> None:
    """Require a port that nobody listens on: Gradio's own message tells of settings that the command line lacks."""
    if port is None:
        return
    check_integer("port", port, 1)
    require(port < 2**16, "port", "be at most 65535", port)
    with socket() as tried:
        tried.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)  # as the server does: one that has just ended does not matter
        try:
            tried.bind((HERE, port))
        except OSError as error:
            raise OSError(f"`port` must be one that can be listened on, but got {port}: {error.strerror}") from error


def _fonts(gr: Any, names: Sequence[str]) -> list[Any]:
    return [gr.themes.Font(name) for name in names]


def _gradio() -> Any:
    """Import Gradio, which asks its makers for nothing."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    try:
        import gradio
    except ImportError as error:
        raise ImportError("the workbench needs gradio: pip install 'sibx[app]'") from error
    return gradio
