"""The page of the command line: what every command prints for ``--help``."""

import os
from contextlib import redirect_stdout, suppress
from io import StringIO
from unittest.mock import patch

from docs.machinery.markdown import page
from sibx.cli import COMMANDS, main

WIDTH = "100"  # columns


def command_page() -> str:
    """Return the page of all commands."""
    parts = ["# Command line", "What `sibx <command> --help` prints.", *map(_command, COMMANDS)]
    return page(parts)


def _command(name: str) -> str:
    return f"## `sibx {name}`\n\n{COMMANDS[name].help}.\n\n```text\n{help_of(name)}```"


def help_of(name: str) -> str:
    """Return the help of a command."""
    printed = StringIO()
    with patch.dict(os.environ, COLUMNS=WIDTH), redirect_stdout(printed), suppress(SystemExit):
        main([name, "--help"])
    return printed.getvalue()
