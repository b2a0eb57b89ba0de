"""Bodies of requests within bounds: of bytes, of time, and of what all of them hold; and every error as one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visionkit.serve.limits import Limits
from visionkit.serve.refusals import RefusedError, refusal_response

LINGER_SECONDS = 2.0
LINGER_BYTES = 64_000_000
"""How long, and how much of, the rest of a refused upload is thrown away before the answer: most clients read only when
they have sent everything, and lose the answer where the connection closes on them."""

FAILED = "the server failed at this request; it is not the request's fault, tell whoever runs the server"


@dataclass(slots=True)
class Held:
    """Bytes of the bodies of all requests that are not answered yet."""

    bytes: int = 0


class BoundedUploads:
    """ASGI middleware around all that answers requests.

    Args:
        on_error: told of errors that are the server's own; the client is told only that there was one.
    """

    def __init__(self, app: ASGIApp, limits: Limits, on_error: Callable[[Exception], None]) -> None:
        self._app = app
        self._limits = limits
        self._on_error = on_error
        self._held = Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        upload = _Upload(receive, Headers(scope=scope), self._limits, self._held)
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                message = await upload.before_answer(message)
                begun = True
            await send(message)

        refusal: RefusedError | None = None
        try:
            upload.check_length()
            await self._app(scope, upload.receive, answer)
        except ClientDisconnect:  # nobody is left to be told
            pass
        except RefusedError as error:
            refusal = error.with_traceback(None)  # whose frames, this one too, would keep the picture
        except Exception as error:  # the last place where one can become an answer
            self._on_error(error)
            refusal = RefusedError("internal", FAILED)
        finally:
            upload.release()
        if refusal is not None and not begun:
            await refusal_response(refusal)(scope, upload.receive, answer)


class _Upload:
    """The body of one request as it arrives."""

    def __init__(self, receive: Receive, headers: Headers, limits: Limits, held: Held) -> None:
        self._receive = receive
        self._limits = limits
        self._held = held
        self._bytes = 0
        self._late = False
        self._deadline = asyncio.get_running_loop().time() + limits.upload_seconds
        # Until it hears from us such a client sends nothing; asking for more would make it send all.
        self._waits_for_us = headers.get("expect", "").lower() == "100-continue"
        length = headers.get("content-length", "")
        self._announced = int(length) if length.isdecimal() else 0
        self._whole = not self._announced and "transfer-encoding" not in headers

    def check_length(self) -> None:
        """Raises RefusedError where the request says itself that it is too large."""
        if self._announced > self._limits.upload_bytes:
            raise self._too_large(self._announced)

    async def receive(self) -> Message:
        """The next piece. Raises RefusedError where it comes too late or is one too many."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self._late = True
            raise RefusedError(
                "too_slow",
                f"the upload took longer than {self._limits.upload_seconds:g} seconds, which is all it gets; "
                "send a smaller file, or over a faster line",
            ) from None
        self._waits_for_us = False
        piece = len(message.get("body", b""))
        self._whole = message["type"] == "http.disconnect" or not message.get("more_body", False)
        self._bytes += piece
        self._held.bytes += piece
        if self._bytes > self._limits.upload_bytes:
            raise self._too_large(self._bytes)
        if self._held.bytes > self._limits.held_bytes:
            raise RefusedError(
                "busy", "too many uploads are under way, the server holds no more; come again", retry_after=1
            )
        return message

    async def before_answer(self, start: Message) -> Message:
        """The start of an answer, when the client has sent everything or has been waited for; then it says goodbye."""
        if not self._whole and not self._late and not self._waits_for_us:
            await self._throw_away_the_rest()
        if self._whole:
            return start
        return {**start, "headers": [*start.get("headers", ()), (b"connection", b"close")]}

    def release(self) -> None:
        """It is answered: what it held counts no more."""
        self._held.bytes -= self._bytes
        self._bytes = 0

    async def _throw_away_the_rest(self) -> None:
        left = LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._whole and left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self._whole = message["type"] == "http.disconnect" or not message.get("more_body", False)

    def _too_large(self, size: int) -> RefusedError:
        most = self._limits.upload_bytes
        return RefusedError(
            "too_large", f"the upload has {size} bytes or more, {most} are taken at most; scale or compress the picture"
        )
