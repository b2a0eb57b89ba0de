"""The server's process: its address, and its life from the first request to the last."""

from __future__ import annotations

import ipaddress
import logging
import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING

from visionkit.errors import UsageError

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn import Server

PACKAGES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
"""Modules of the extra `serve` and the packages that bring them."""


def check_installed() -> None:
    """Raises UsageError where the extra `serve` is not installed."""
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise UsageError(
            f"serve needs {', '.join(PACKAGES.values())}, of which {', '.join(missing)} cannot be imported; "
            "install them by: pip install 'visionkit[serve]'"
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 chooses a free one.

    Raises:
        UsageError: there is no such address, or another program has it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{host!r} is no address of this machine ({_reason(error)}); use 127.0.0.1") from None
    listening = socket.socket(family, kind, protocol)
    try:
        # An address that a server has just left may be used again at once.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(socket.SOMAXCONN)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"{host} port {port} cannot be listened at ({_reason(error)}); choose another --port, or 0 for a free one"
        ) from None
    return listening


def url_of(listening: socket.socket) -> str:
    """Where to find it, `http://127.0.0.1:8000`."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(listening: socket.socket) -> bool:
    """Whether only programs on this machine can reach it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def server_of(app: ASGIApp, *, grace_seconds: float, debug: bool = False) -> Server:
    """The server of an application. Its `run(sockets=[...])` answers until the process is told to end (Ctrl-C,
    SIGTERM), and then those who already ask; what the process itself does at that signal it does afterwards.

    Args:
        grace_seconds: how long those who already ask may take.
        debug: let it warn on stderr of what comes in broken.
    """
    from uvicorn import Config, Server  # noqa: PLC0415 - the room can be imported without it

    from visionkit.serve.connections import HurriedProtocol  # noqa: PLC0415

    # Whoever sent it is told; on stderr it would be a line for every such request.
    for library in ("uvicorn.error", "python_multipart.multipart"):
        logging.getLogger(library).setLevel(logging.INFO if debug else logging.CRITICAL)
    config = Config(
        app,
        http=HurriedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(grace_seconds),
    )
    return Server(config)


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
