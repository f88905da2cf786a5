"""The page's server takes no files but photos: what gradio offers beyond that is closed.

gradio reads, and fetches, what a request calls a file (`{"path": ..., "meta": ...}`), for any of its components, and
asks whether it was uploaded only where it has started the server itself. Photos come in by events here, as data; so no
request needs to name a file.
"""

import json
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/gradio_api/"
_EVENTS = (PREFIX + "queue/join", PREFIX + "run/")
_HARMLESS = (PREFIX + "cancel", PREFIX + "reset")  # name events, nothing else


class NoFiles:
    """Refuses requests to gradio that name files, and all that change something other than by the page's events.

    Args:
        app: what answers the others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        asks = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if not asks or not path.startswith(PREFIX) or path.startswith(_HARMLESS):
            await self._app(scope, receive, send)
            return
        body = await _whole(receive) if path.startswith(_EVENTS) else None
        if body is None or _names_a_file(body):
            await JSONResponse({"detail": "this page takes no files"}, 403)(scope, receive, send)
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, again, send)


async def _whole(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _names_a_file(body: bytes) -> bool:
    try:
        waiting: list[Any] = [json.loads(body)]
    except (ValueError, RecursionError):
        return True
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "path" in value:
                return True
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False
