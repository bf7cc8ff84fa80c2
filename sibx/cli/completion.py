"""``sibx completion``: what makes a shell complete commands, options and file names."""

from argparse import Namespace


def run(args: Namespace) -> int:
    """Print the text for the shell."""
    from sibx.cli import COMMANDS, build_parser

    try:
        import shtab
    except ImportError as error:
        raise ImportError("completion needs shtab: pip install 'sibx[completion]'") from error
    parser, commands = build_parser()
    for name, command in COMMANDS.items():
        command.add_options(commands[name])
    print(shtab.complete(parser, args.shell))
    return 0
