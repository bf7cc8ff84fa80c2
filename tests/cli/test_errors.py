"""What a command says when something goes wrong: one line, an exit code, and with ``--debug`` where it was."""

import sys

import pytest

from sibx.cli import main


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("`a` must\nbe b"), 2, "error: `a` must be b"),
        (
            ValueError("`out_dir` must hold none (resume=True continues it)"),
            2,
            "error: `out` must hold none (--resume continues it)",
        ),
        (OSError(28, "No space left on device"), 2, "error: [Errno 28] No space left on device"),
        (MemoryError(), 2, "error: not enough memory (smaller images or batches need less): MemoryError"),
        (
            RuntimeError("CUDA out of memory"),
            2,
            "error: not enough memory (smaller images or batches need less): CUDA out of memory",
        ),
        (
            KeyError("std"),
            70,
            "error: unexpected KeyError: 'std' (run again with --debug to see where, and report it)",
        ),
    ],
)
def test_any_error_is_one_line_and_debug_shows_it_all(error, code, said, monkeypatch, capsys):
    def fails(_):
        raise error

    monkeypatch.setattr("sibx.cli.listing.run", fails)
    assert main(["metrics"]) == code
    assert capsys.readouterr() == ("", f"sibx: {said}\n")
    for words in (["metrics", "--debug"], ["--debug", "metrics"]):
        with pytest.raises(type(error)):
            main(words)


def test_nobody_reads_on(monkeypatch, capsys):
    """As after ``sibx metrics | head``: silent, and the work is done."""

    class Closed:
        def write(self, _):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["metrics"]) == 0
    assert capsys.readouterr().err == ""
