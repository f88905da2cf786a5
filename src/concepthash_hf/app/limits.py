"""What every request has to keep to, whatever it asks for: a body of bounded size, sent in bounded time."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class LimitedBodies:
    """Refuses bodies that are too large or too slow, before anything reads them whole.

    Args:
        app: what answers the others.
        most_bytes: of a body.
        seconds: in which a body has to be there.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, seconds: float) -> None:
        self._app, self._most, self._seconds = app, most_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or int(told) > self._most:
            await _Refusal(413, self._too_large).answer(scope, receive, send)
            return
        until, read, is_read = asyncio.get_running_loop().time() + self._seconds, 0, False

        async def limited() -> Message:
            nonlocal read, is_read
            try:
                async with asyncio.timeout_at(None if is_read else until):
                    message = await receive()
            except TimeoutError:
                raise _Refusal(408, f"the request was not there within {self._seconds:g} seconds") from None
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                is_read = not message.get("more_body", False)
                if read > self._most:
                    raise _Refusal(413, self._too_large)
            return message

        try:
            await self._app(scope, limited, send)
        except _Refusal as refusal:  # where nothing inside has answered it
            await refusal.answer(scope, receive, send)

    @property
    def _too_large(self) -> str:
        return f"a request of more than {self._most // 2**20} MB is not taken"


class _Refusal(HTTPException):
    """One that what reads a body passes on, as it knows its kind."""

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"detail": self.detail}, self.status_code, {"connection": "close"})(scope, receive, send)
