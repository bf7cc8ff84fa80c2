"""Who may speak to the server: the page that it served, and no other.

To be bound to 127.0.0.1 is not enough: every page in the same browser can send requests there, by the address (CSRF) or
by a name of its own that leads there (DNS rebinding).
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

HERE = "127.0.0.1"  # nobody else's machine reaches the page
NAMES = (HERE, "localhost")
REFUSED = b"The workbench answers its own page alone, at http://127.0.0.1 or http://localhost."

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Server = Callable[[Scope, Receive, Send], Awaitable[None]]


class OwnPageAlone:
    """Answers requests of the server's own page; all others get 403, before anything is read or done.

    Args:
        app: the server (ASGI) that answers.
    """

    def __init__(self, app: Server):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http" or is_own({k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": REFUSED})


def is_own(headers: Mapping[str, str]) -> bool:
    """Return whether a request comes from the server's page, or from no page: a link that is opened, a program.

    Args:
        headers: those of the request, with names in small letters.
    """
    host = headers.get("host", "").lower()
    if host.rsplit(":", 1)[0] not in NAMES:
        return False
    if headers.get("origin", f"http://{host}") != f"http://{host}":
        return False
    # What a page loads or frames has no origin, but browsers say whose it is; a link to the workbench may be followed.
    from_other = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
    return not from_other or headers.get("sec-fetch-dest") == "document"
