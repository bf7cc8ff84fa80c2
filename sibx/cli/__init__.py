"""The command line: ``sibx <command>``, the commands being those of COMMANDS.

To add a command: one line in COMMANDS, its options in ``options``, and a module with ``run(args) -> exit code``. Only
the module of the command that was asked for is imported, because torch takes seconds.
"""

import os
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from typing import NamedTuple, TextIO, cast

from sibx import __version__
from sibx.cli import options
from sibx.cli.options import Parser
from sibx.cli.settings_file import with_config
from sibx.cli.unheard import Unheard

BAD_INPUT, UNEXPECTED, INTERRUPTED = 2, 70, 130  # exit codes; the last as a shell gives it
EXPECTED = (ValueError, ImportError, OSError, FloatingPointError, MemoryError)  # whose message says what to change
NO_MEMORY = ("out of memory", "can't allocate memory", "size calculation overflowed")  # what torch says of it
# What errors of functions name -> as it is given here.
OPTIONS = {"`out_dir`": "`out`", "resume=True": "--resume", "`path`": "`checkpoint`"}
DEBUG = "--debug"
LONGEST_MESSAGE = 1000  # characters of an error; torch lists every key of a state dict that does not fit

FIRST_STEPS = {
    "sibx explain photo.jpg": "what a network looks at, drawn over your picture",
    "sibx finetune --dataset folder --root data --model efficientnet_lite0 --weights bundled --out run": (
        "teach one to look at the object, with your images and masks"
    ),
    "sibx evaluate --dataset folder --root data --checkpoint run/model.pt --out scores": (
        "measure where it looks, and how well it classifies"
    ),
}
INTRODUCTION = "\n".join(
    [
        "See what an image classifier looks at, measure it, and improve it. First steps:",
        *(f"\n  {command}\n      {what}" for command, what in FIRST_STEPS.items()),
    ]
)
HELP = "sibx <command> --help lists all options of a command."


class Command(NamedTuple):
    """One command.

    Attributes:
        module: module of ``sibx.cli`` that runs it.
        help: its line in ``sibx --help``.
        add_options: function that adds its options to a parser.
        takes_config: whether it takes ``--config``.
        resumes: whether it takes ``--resume``.
    """

    module: str
    help: str
    add_options: Callable[[Parser], None]
    takes_config: bool = False
    resumes: bool = False


COMMANDS = {
    "explain": Command("explain", "Draw what a classifier looks at over your images", options.add_explain),
    "finetune": Command("finetune", "Fine-tune a classifier with S-IB or a baseline", options.add_finetune, True, True),
    "evaluate": Command("evaluate", "Score explanations on images with object masks", options.add_evaluate, True, True),
    "recommend": Command(
        "advice", "Say which method and layer to trust for a model on your images", options.add_recommend, True, True
    ),
    "reliance": Command(
        "classifier", "Score a classifier with the background changed", options.add_reliance, True, True
    ),
    "robustness": Command(
        "classifier", "Score a classifier on attacked and corrupted images", options.add_robustness, True, True
    ),
    "study": Command("study", "Compare many trainings, resumable and over seeds", options.add_study, True, True),
    "export": Command("export", "Write a trained classifier for other programs", options.add_export),
    "app": Command("app", "Open the workbench in the browser: see where a network looks (extra app)", options.add_app),
    "report": Command("report", "Write results as a page, as Markdown and as LaTeX tables", options.add_report),
    "doctor": Command("doctor", "Say what is installed, which data is found, and whether it works", options.add_doctor),
    "methods": Command("listing", "List the attribution methods", options.add_nothing),
    "metrics": Command("listing", "List the metrics", options.add_nothing),
    "datasets": Command("listing", "List the data sets", options.add_nothing),
    "models": Command("listing", "List the models", options.add_nothing),
    "completion": Command(
        "completion", "Print what lets a shell complete commands and options", options.add_completion
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``sibx``; None = those of this process.

    Returns:
        Exit code: 0; 1 if some of the images could not be read; 2 for bad input, or a training that diverged; 70 for
        an error that should not happen, and 130 after Ctrl-C, each after one line on stderr. Nothing is lost where
        nobody reads on, as after ``| head``.

    Raises:
        Exception: with ``--debug``, whatever went wrong.
    """
    given = [_dashed(w) for w in (sys.argv[1:] if argv is None else argv)]
    debug = [DEBUG] if DEBUG in given else []
    words = [word for word in given if word != DEBUG] + debug  # the command stands first, whatever was typed
    out, err = (cast(TextIO, Unheard(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            return _run(words, debug=bool(debug))
        finally:
            out.flush()


def _run(words: list[str], *, debug: bool) -> int:
    try:
        args = _parse(words)
        code: int = import_module(f"sibx.cli.{COMMANDS[args.command].module}").run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        _complain(f"interrupted; {_how_to_go_on(words)}")
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        return _explain(error)
    return code


def _explain(error: Exception) -> int:
    """Say in one line what went wrong; return the exit code."""
    message = _one_line(str(error)) or type(error).__name__
    for argument, option in OPTIONS.items():
        message = message.replace(argument, option)
    if isinstance(error, MemoryError) or any(words in message.lower() for words in NO_MEMORY):
        _complain(f"error: not enough memory (smaller images or batches need less): {message}")
        return BAD_INPUT
    if isinstance(error, EXPECTED):
        _complain(f"error: {message}")
        return BAD_INPUT
    found = f"unexpected {type(error).__name__}: {message}"
    _complain(f"error: {found} (run again with {DEBUG} to see where, and report it)", everywhere=True)
    return UNEXPECTED


def _complain(line: str, everywhere: bool = False) -> None:
    """Print a line on stderr, once: under torchrun all processes of a machine find the same error."""
    if everywhere or os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"sibx: {line}", file=sys.stderr)


def _how_to_go_on(words: Sequence[str]) -> str:
    command = COMMANDS.get(words[0]) if words else None
    return f"the same command {'with --resume goes on' if command and command.resumes else 'begins again'}"


def _parse(words: Sequence[str]) -> Namespace:
    parser, commands = build_parser()
    asked = COMMANDS.get(words[0]) if words else None
    if asked:  # the options of the others need not be known, and some of them import torch
        asked.add_options(commands[words[0]])
        words = with_config(commands[words[0]], words) if asked.takes_config else words
    return parser.parse_args(words)


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of the command line, and those of the commands, which have no options yet."""
    parser = Parser(prog="sibx", description=INTRODUCTION, epilog=HELP, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"sibx {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="command", required=True)
    lines = COMMANDS.items()
    found = {name: commands.add_parser(name, help=c.help, description=f"{c.help}.") for name, c in lines}
    for command in found.values():
        command.add_argument(DEBUG, action="store_true", help="show the whole traceback of an error")
    return parser, found


def _dashed(word: str) -> str:
    """Return an option with dashes, which users may write with underscores."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word


def _one_line(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + " ..."
