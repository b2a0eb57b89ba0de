"""Connections on which nothing is asked: they end."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""How long the head of a request may take to arrive."""


class HurriedProtocol(H11Protocol):
    """uvicorn's HTTP, which itself waits for ever for a client that opens a connection, or begins a request, and says
    no more: a few thousand of them would leave no connection for others."""

    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        """Have the connection closed in time, unless a head is there; between requests uvicorn's own timer runs."""
        is_due = self.conn.their_state is h11.IDLE
        if is_due and self._head_due is None:
            self._head_due = self.loop.call_later(HEAD_SECONDS, self.transport.close)
        elif not is_due and self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None
