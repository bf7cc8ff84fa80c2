"""Whose requests the workbench answers."""

import socket

import pytest

from sibx.app import serve
from sibx.app._guard import is_own
from tests.helpers.benches import bench

OWN = {"host": "127.0.0.1:7860", "sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:7860"}


def test_the_page_is_answered_and_so_is_a_program():
    assert is_own(OWN)
    assert is_own({"host": "localhost:9000", "origin": "http://localhost:9000"})  # through a tunnel
    assert is_own({"host": "127.0.0.1"})
    assert is_own({"host": "127.0.0.1:7860", "sec-fetch-site": "cross-site", "sec-fetch-dest": "document"})  # a link


@pytest.mark.parametrize(
    "changed",
    [
        {"host": "example.org"},
        {"host": "example.org:7860", "origin": "http://example.org:7860"},  # a name that leads here
        {"host": "127.0.0.1.example.org:7860"},
        {"host": ""},
        {"origin": "http://127.0.0.1:8888"},  # another server of this machine
        {"origin": "https://127.0.0.1:7860"},
        {"origin": "null"},
        {"sec-fetch-site": "same-site", "sec-fetch-dest": "iframe"},
        {"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"},
    ],
)
def test_no_other_page_is(changed):
    assert not is_own(OWN | changed)


def test_a_port_that_cannot_be_had_is_named(tmp_path):
    pytest.importorskip("gradio", reason="the workbench needs gradio (extra app)")
    workbench = bench(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match=f"`port` must be one that can be listened on, but got {port}"),
            serve(workbench, port=port),
        ):
            pass
    with pytest.raises(ValueError, match="`port` must be at most 65535"), serve(workbench, port=99999):
        pass
