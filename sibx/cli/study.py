"""``sibx study``: many trainings compared, from one file of settings."""

import json
import re
import sys
from argparse import Namespace
from dataclasses import fields
from typing import Any, get_type_hints

from sibx.cli.settings_file import load_yaml
from sibx.studies import Outcome, Place, Study, preview, run_study
from sibx.studies.typed import fits

PAIR = r"[\w./:-]+="  # the beginning of NAME=VALUE


def run(args: Namespace) -> int:
    """Run the study; 1 if some of it failed."""
    study, place = Study(**read(args, Study)), Place(**read(args, Place))
    if place.dry_run:
        print(preview(study, place))
        return 0
    outcome = run_study(study, place)
    return 0 if outcome is None else _say(outcome)


def read(args: Namespace, kind: type) -> dict[str, Any]:
    """Return the settings that were given, by field of Study or Place."""
    hints = get_type_hints(kind)
    given = {f.name: getattr(args, f.name) for f in fields(kind) if getattr(args, f.name) is not None}
    return {name: words if hints[name] is bool else _value(words, hints[name]) for name, words in given.items()}


def _value(words: list[str], hint: Any) -> Any:
    """Read the words of an option: as one value, as NAME=VALUE pairs or as a list, whichever fits the type first."""
    values = [_load(word) for word in words]
    readings: list[Any] = [values[0], words[0]] if len(words) == 1 else []
    if all(re.match(PAIR, word) for word in words):
        readings.insert(0, {name: _load(text) for name, _, text in (word.partition("=") for word in words)})
    readings += [values, words]
    return next((value for value in readings if fits(value, hint)), readings[0])


def _load(word: str) -> Any:
    """Read JSON, or with brackets around it YAML; anything else is a text."""
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return load_yaml(word, f"the value {word}") if word.startswith(("[", "{")) else word


def _say(outcome: Outcome) -> int:
    if outcome.page is not None:
        print(outcome.summary)
        print(f"\nWritten to {outcome.folder}/ after {outcome.seconds:.0f} s; open {outcome.page}")
    if outcome.failed:
        count = len(outcome.failed)
        print(f"\nFAILED, {count} of {outcome.jobs} jobs (--resume tries again):", file=sys.stderr)
        for name, error in outcome.failed.items():
            print(f"- {name}: {error.strip().splitlines()[-1]}", file=sys.stderr)
    if outcome.waiting:
        print(f"{len(outcome.waiting)} others need these and were not tried", file=sys.stderr)
    return int(bool(outcome.failed))
