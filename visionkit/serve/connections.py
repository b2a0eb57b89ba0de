"""Connections on which nothing is asked, or answers are not taken: they end."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""How long the head of a request may take to arrive."""

TAKING_SECONDS = 60.0
"""How long a client may take for the part of an answer that the system does not hold for it."""


class HurriedProtocol(H11Protocol):
    """uvicorn's HTTP, which itself waits for ever for a client that opens a connection, or begins a request, and says
    no more, and for one that does not read its answer: a few thousand of them would leave no connection for others, and
    one that does not read keeps the server from ending in time."""

    _head_due: asyncio.TimerHandle | None = None
    _taking_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for due in (self._head_due, self._taking_due):
            if due is not None:
                due.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        # `close` would wait until all is taken.
        self._taking_due = self.loop.call_later(TAKING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking_due is not None:
            self._taking_due.cancel()
            self._taking_due = None

    def _expect_head(self) -> None:
        """Have the connection closed in time, unless a head is there; between requests uvicorn's own timer runs."""
        is_due = self.conn.their_state is h11.IDLE
        if is_due and self._head_due is None:
            self._head_due = self.loop.call_later(HEAD_SECONDS, self.transport.close)
        elif not is_due and self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None
