"""The page to try a model in, and the one that explains the API: files of this package, nothing from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources

from fastapi import FastAPI
from starlette.responses import Response

FILES: Mapping[str, tuple[str, str]] = {
    "/": ("page.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/masks.js": ("masks.js", "text/javascript"),
    "/docs.js": ("docs.js", "text/javascript"),
}
"""Address -> file beside this one and its media type."""

# The browser holds the pages to it: they use nothing but what this server sends, and no one puts them in a frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_pages(app: FastAPI, sample: Callable[[], bytes]) -> None:
    """Add the pages to an application.

    Args:
        sample: makes the JPEG or PNG that the page offers; asked for when someone wants it.
    """
    for address, (name, media_type) in FILES.items():
        app.get(address, include_in_schema=False)(_sending(name, media_type))

    @app.get("/sample", include_in_schema=False)
    async def sample_picture() -> Response:
        return Response(await asyncio.to_thread(sample), media_type="image/jpeg", headers=HEADERS)


def _sending(name: str, media_type: str) -> Callable[[], Awaitable[Response]]:
    content = resources.files("visionkit.serve").joinpath(name).read_bytes()

    async def send() -> Response:
        return Response(content, media_type=f"{media_type}; charset=utf-8", headers=HEADERS)

    return send
