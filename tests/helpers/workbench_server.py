"""Serves a small workbench until it is ended; says its address, and refuses to talk to any other machine."""

import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event

from sibx.app import serve
from tests.helpers.benches import bench

connect = socket.socket.connect


def connect_here(self, address):
    """Connect to this machine alone."""
    host = address[0] if isinstance(address, tuple) else "a file"
    if host not in ("127.0.0.1", "localhost", "::1", "a file"):
        print(f"asked {host}", flush=True)
        raise OSError(f"{host} is another machine")
    return connect(self, address)


socket.socket.connect = connect_here
signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left in the temporary folder
with suppress(KeyboardInterrupt), serve(bench(Path(sys.argv[1]))) as address:
    print(address, flush=True)
    Event().wait()
