"""The application: one model behind a few addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from visionkit.errors import DataError, UsageError
from visionkit.predict.backend import Backend
from visionkit.predict.colours import Colour, class_colour, text_colour
from visionkit.predict.json_writer import json_line
from visionkit.predict.tiling import Tiling
from visionkit.result import Result, Task, result_schema
from visionkit.serve.batching import Asked, Batcher, ask
from visionkit.serve.documentation import DESCRIPTION, HEALTH, MODELS, answers, question_body
from visionkit.serve.limits import USUAL, Limits
from visionkit.serve.memory import keep_giving_back
from visionkit.serve.pages import add_pages
from visionkit.serve.questions import read_question
from visionkit.serve.refusals import RefusedError, refusal_response
from visionkit.serve.sample import sample_for
from visionkit.serve.uploads import BoundedUploads
from visionkit.version import __version__

NOSNIFF = {"X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Served:
    """The model that answers.

    Args:
        weights: what `--weights` of a command would be to get it, told to whoever asks: a name, never a path.
        tiling: how larger pictures are cut; None sees each whole.
        options: what else a command would be called with to see the same, such as `("--imgsz", "640")`.
    """

    backend: Backend
    task: Task
    weights: str
    tiling: Tiling | None = None
    options: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.backend.name,
            "task": self.task,
            "weights": self.weights,
            "options": list(self.options),
            "sha256": self.backend.sha256,
            "image_size": self.backend.image_size,
            "classes": [
                {
                    "label": label,
                    "category_id": row["id"],
                    "name": row["name"],
                    "colour": _hex(class_colour(label)),
                    "ink": _hex(text_colour(class_colour(label))),
                }
                for label, row in enumerate(self.backend.classes.to_json())
            ],
        }


def make_app(
    served: Served,
    *,
    limits: Limits = USUAL,
    sample: Callable[[], bytes] | None = None,
    on_error: Callable[[Exception], None] = lambda error: None,
) -> FastAPI:
    """The ASGI application that answers for a model; it keeps two threads from startup to shutdown.

    Args:
        sample: makes the image file that the page offers; one that suits the model's classes where None.
        on_error: told of each error that is the server's own, which clients are not told.
    """
    batcher = Batcher(served.backend, limits, served.tiling)

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        tidying = asyncio.create_task(keep_giving_back())
        try:
            yield
        finally:
            tidying.cancel()
            await asyncio.to_thread(batcher.stop)

    app = FastAPI(
        title="visionkit serve",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's own page loads scripts from elsewhere
        redoc_url=None,
        lifespan=running,
        # Else it would report, since 0.165 or so, to whatever the variables OTEL_* name.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
    )
    app.add_middleware(BoundedUploads, limits=limits, on_error=on_error)
    app.add_middleware(HeadAsGet)
    app.add_exception_handler(HTTPException, _nothing_there)

    @app.post(
        "/v1/detect",
        summary="What a picture shows",
        description="One picture, as a file of a form or in base64. Pictures of requests that come together are "
        "looked at together.",
        responses=answers("What the model sees, schema `visionkit.result/1`.", result_schema(), refusals=True),
        openapi_extra={"requestBody": question_body()},
        response_model=None,
    )
    async def detect(request: Request) -> Response:
        question = await read_question(request, limits)
        _check_asked(served.backend, question.asked)
        result = await _answer(batcher.submit(*question), request, limits)
        # Masks of a large picture are long: others are answered meanwhile.
        line = await asyncio.to_thread(json_line, result)
        return Response(line, media_type="application/json", headers=NOSNIFF)

    @app.get(
        "/v1/models",
        summary="The model, its classes and the server's limits",
        responses=answers("One model, with its classes in the order of labels.", MODELS),
        response_model=None,
    )
    async def models() -> Response:
        taken = {"upload_bytes": limits.upload_bytes, "pixels": limits.pixels, "upload_seconds": limits.upload_seconds}
        return JSONResponse({"models": [served.to_json()], "limits": taken}, headers=NOSNIFF)

    @app.get(
        "/healthz",
        summary="Whether pictures are taken",
        responses=answers("They are.", HEALTH) | {503: answers("They are not.", HEALTH)[200]},
        response_model=None,
    )
    async def healthz() -> Response:
        alive = batcher.alive
        return JSONResponse({"status": "ok" if alive else "ending", **batcher.counts}, 200 if alive else 503)

    add_pages(app, sample or sample_for(served.backend.classes))
    return app


class HeadAsGet:
    """ASGI middleware: HEAD, which health checks ask, is answered as GET is; the server itself sends no body then (RFC
    9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def _check_asked(backend: Backend, asked: Asked) -> None:
    """Raises RefusedError where the model cannot be asked for it; a picture in a batch would only find out late."""
    try:
        ask(backend, [], asked)
    except UsageError as error:
        raise RefusedError("bad_option", str(error)) from None


async def _answer(answer: Future[Result], request: Request, limits: Limits) -> Result:
    """The result. Whoever does not wait for it any more is not looked at, unless that has begun.

    Raises:
        RefusedError: the picture is broken, or not answered in time.
        ClientDisconnect: nobody is left to be told.
    """
    result, leaving = asyncio.wrap_future(answer), asyncio.create_task(_left(request))
    try:
        await asyncio.wait((result, leaving), timeout=limits.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        if leaving.done():
            raise ClientDisconnect
        raise _late(limits.answer_seconds, waited=answer.cancel())
    except DataError as error:
        raise RefusedError("bad_image", str(error)) from None
    finally:
        leaving.cancel()
        result.cancel()


async def _left(request: Request) -> None:
    """Returns when the client, whose request has been read, has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _late(seconds: float, *, waited: bool) -> RefusedError:
    """What a picture is told that `waited` all its time, or else was still looked at."""
    if waited:
        words = f"the picture had no answer within {seconds:g} seconds, which is all it waits; come again"
        return RefusedError("busy", words, retry_after=5)
    return RefusedError(
        "out_of_time",
        f"the picture was still looked at after {seconds:g} seconds, which is all it gets, waiting included; "
        "scale it down, come again when fewer ask, or raise the server's --answer-timeout",
    )


async def _nothing_there(_request: Request, error: Exception) -> Response:
    """The router's own refusals, told as all others are."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        response = refusal_response(
            RefusedError("not_allowed", f"this address answers {allowed} only; /docs says how it is used")
        )
        response.headers["Allow"] = allowed
        return response
    return refusal_response(RefusedError("not_found", "nothing is at this address; /docs lists those that there are"))


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
