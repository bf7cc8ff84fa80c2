"""Settings of a command that come from a YAML file."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sibx.cli.options import Parser


def with_config(parser: Parser, words: Sequence[str]) -> list[str]:
    """Put the options in the file of ``--config`` before those of the command line, which override them.

    Also adds ``--config`` to the parser, for its help.

    Raises:
        ValueError: the file cannot be read, or is not a mapping.
        ImportError: PyYAML is not installed.
    """
    note = "YAML with any of these options; those of the command line override it"
    parser.add_argument("--config", metavar="FILE", help=note)
    reader = Parser(prog=parser.prog, add_help=False)
    reader.add_argument("--config")
    known, rest = reader.parse_known_args(list(words))
    return rest if known.config is None else [*rest[:1], *_config_words(known.config), *rest[1:]]


def load_yaml(text: str, what: str) -> Any:
    """Return what YAML says, in plain values: no tag makes an object, and no key stands twice in a mapping.

    Raises:
        ValueError: the text is no such YAML.
        ImportError: PyYAML is not installed; the error says what needs it, and how to install it.
    """
    try:
        import yaml
    except ImportError as error:
        raise ImportError(f"{what} needs PyYAML: pip install 'sibx[yaml]'") from error

    class Loader(yaml.SafeLoader):
        """Makes plain values only."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = Counter(str(key.value) for key, _ in node.value)
            twice = [key for key, count in keys.items() if count > 1]
            if twice:  # YAML itself would let the last one win
                raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} stands there twice", node.start_mark)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{what} must be YAML, but: {error}") from error


def _config_words(path: str) -> list[str]:
    try:
        settings = load_yaml(Path(path).read_text(encoding="utf-8"), "--config")
    except (OSError, ValueError) as error:
        raise ValueError(f"`config` must be a YAML file that can be read, but got {path!r}: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"`config` must be a YAML file of options and values, but got {settings!r} in {path!r}.")
    if "config" in settings:
        raise ValueError(f"`config` must be one file, which names no other, but got {path!r}.")
    return [word for key, value in settings.items() for word in _option_words(f"{key}".replace("_", "-"), value)]


def _option_words(name: str, value: Any) -> list[str]:
    """Return the words that give an option this value; [] for None, the default of every option that may be None."""
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, dict):
        return [f"--{name}", *(f"{k}={json.dumps(v)}" for k, v in value.items())]
    return [f"--{name}", *map(str, value)] if isinstance(value, list) else [f"--{name}={value}"]
