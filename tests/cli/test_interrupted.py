"""Ctrl-C in the real program, and what stderr shows where it is no terminal."""

import os
import signal
import subprocess
import sys
import time

import pytest

from sibx._files import atomic_file

WORDS = (
    *("finetune", "--dataset", "synthetic", "--image-size", "16", "--limit", "8", "--model", "tiny_cnn"),
    *("--batch-size", "8", "--epochs", "9999", "--device", "cpu", "--out"),
)


def hear_interrupts():
    """Ctrl-C is ignored by what a shell runs in the background, and by all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_it_ends_with_one_line(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV_")}
    with subprocess.Popen(
        [sys.executable, "-m", "sibx", *WORDS, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=hear_interrupts,
    ) as running:
        while running.poll() is None and not list(tmp_path.glob("checkpoint-*.pt")):
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        try:
            _, err = running.communicate(timeout=120)
        finally:
            running.kill()
    assert running.returncode == 130, err
    assert err == "sibx: interrupted; the same command with --resume goes on\n"  # nor a progress bar
    assert not (tmp_path / "model.pt").exists()


def half_written(path, error):
    with atomic_file(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_no_draft_is_left_behind(error, tmp_path):
    (tmp_path / "old.txt").write_text("old")
    with pytest.raises(error):
        half_written(tmp_path / "old.txt", error)
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"
