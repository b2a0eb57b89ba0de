"""What a request to detect asks: a picture, as a file of a form or in base64 in JSON, and options beside it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from visionkit.classes import listed_names
from visionkit.errors import DataError
from visionkit.imaging.header import read_header
from visionkit.serve.batching import Asked
from visionkit.serve.limits import Limits
from visionkit.serve.refusals import RefusedError

MOST_DETECTIONS = 1000
LONGEST_NAME = 200
LONGEST_SHOWN = 40
FORM_FIELDS = 100


def _split(names: Any) -> Any:
    """A form has no lists: `cat,dog` are two names, as on the command line."""
    return listed_names(names) if isinstance(names, str) else names


class Options(BaseModel):
    """What a request may ask for besides a picture; as `visionkit detect`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    conf: float = Field(0.25, ge=0, le=1, description="Lowest score of a detection.")
    iou: float | None = Field(
        None, ge=0, le=1, description="Of two boxes of a class that overlap more the better stays; null: the model's."
    )
    max_det: int = Field(300, ge=1, le=MOST_DETECTIONS, description="Most detections.")
    classes: Annotated[tuple[str, ...] | None, BeforeValidator(_split)] = Field(
        None, description="Names to look for, in a form separated by commas or one a field; null: all."
    )


class JsonQuestion(Options):
    """The body of a JSON request."""

    image: str = Field(description="The image file in base64; a data: URL will do.")
    name: str = Field("", description="What the result calls the picture.")


RULES = {
    "conf": "a number from 0 to 1",
    "iou": "a number from 0 to 1",
    "max_det": f"a whole number from 1 to {MOST_DETECTIONS}",
    "classes": "names that the model knows",
    "image": "an image file in base64",
    "name": "text",
}


class Question(NamedTuple):
    """A picture that may be decoded, and what is asked of it.

    Args:
        data: the image file.
        name: what the client calls it, without folders.
        pixels: how many it has by its header.
    """

    data: bytes
    name: str
    pixels: int
    asked: Asked


async def read_question(request: Request, limits: Limits) -> Question:
    """The question in a request.

    Raises:
        RefusedError: it holds none, or one that is out of bounds.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        data, name, fields = await _read_form(request)
        return await asyncio.to_thread(_of_form, data, name, fields, limits)
    if media_type == "application/json":
        body = b"".join([piece async for piece in request.stream()])  # `request.body` would keep it, too
        return await asyncio.to_thread(_of_json, body, limits)
    raise RefusedError(
        "media_type",
        f"a picture comes as multipart/form-data or application/json, got {_shown(media_type) or 'nothing'}; "
        "send it as curl does with -F image=@photo.jpg",
    )


async def _read_form(request: Request) -> tuple[bytes, str, dict[str, str]]:
    """File, its name, and the other fields."""
    try:
        form = await request.form(max_files=1, max_fields=FORM_FIELDS)
    except (HTTPException, ValueError) as error:
        reason = error.detail if isinstance(error, HTTPException) else error
        raise RefusedError(
            "bad_request",
            f"the form cannot be read ({_one_line(reason)}); send one as curl does with -F image=@photo.jpg",
        ) from None
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise RefusedError(
                "bad_request", "the form has no file, one is needed; send it as curl does with -F image=@photo.jpg"
            )
        fields = _by_name((key, value) for key, value in form.multi_items() if isinstance(value, str))
        return await files[0].read(), files[0].filename or "", fields
    finally:
        await form.close()


def _by_name(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The fields of a form; `classes` may come several times, and names all of them."""
    said: dict[str, str] = {}
    for key, value in fields:
        if key in said and key != "classes":
            raise RefusedError(
                "bad_option", f"{_shown(key)!r} comes more than once, only classes may; leave all but one out"
            )
        said[key] = f"{said[key]},{value}" if key in said else value
    return said


def _of_json(body: bytes, limits: Limits) -> Question:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise RefusedError("bad_request", 'the body is no JSON object; send {"image": "..."} with a file in base64')
    question = _validated(JsonQuestion, said)
    text = question.image.partition(",")[2] if question.image.startswith("data:") else question.image
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise RefusedError(
            "bad_request", "image is not base64, it must be a file in it; encode it as base64 -w0 photo.jpg does"
        ) from None
    return _checked(data, question.name, question, limits)


def _of_form(data: bytes, name: str, fields: Mapping[str, str], limits: Limits) -> Question:
    return _checked(data, name, _validated(Options, fields), limits)


def _checked(data: bytes, name: str, options: Options, limits: Limits) -> Question:
    """The question, after all that can be known before the picture is decoded."""
    called = _without_folders(name)
    try:
        header = read_header(BytesIO(data), called)
    except DataError as error:
        raise RefusedError("bad_image", str(error)) from None
    pixels = header.width * header.height
    if pixels > limits.pixels:
        raise RefusedError(
            "too_many_pixels",
            f"{called} is {header.width}x{header.height} pixels, at most {limits.pixels / 1e6:g} million are taken; "
            "scale it down",
        )
    return Question(data, called, pixels, Asked(options.conf, options.iou, options.max_det, options.classes))


Said = TypeVar("Said", bound=BaseModel)


def _validated(kind: type[Said], fields: Mapping[str, Any]) -> Said:
    """The fields as they are meant; the first that cannot be is refused in words."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
    key = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        known = ", ".join(kind.model_fields)
        raise RefusedError("bad_option", f"{_shown(key)!r} is no option, the options are {known}; leave it out")
    if problem["type"] == "missing":
        raise RefusedError("bad_request", f"{key} is missing, it must be {RULES[key]}; add it")
    got = _shown(problem["input"] if isinstance(problem["input"], str) else repr(problem["input"]))
    raise RefusedError("bad_option", f"{key} must be {RULES[key]}, got {got}; change it or leave it out")


def _without_folders(name: str) -> str:
    """A file's name as it may be shown and stored: no folders, nothing unprintable."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:LONGEST_NAME] or "image"


def _shown(text: str) -> str:
    # JSON may write half of a pair of UTF-16, which no answer in UTF-8 can have.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split()).rstrip(".")
