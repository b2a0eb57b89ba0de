"""What /openapi.json says of bodies and answers: the shapes that code alone does not tell FastAPI."""

from __future__ import annotations

from typing import Any, get_args

from visionkit.result import Task
from visionkit.serve.questions import JsonQuestion, Options
from visionkit.serve.refusals import CODES

DESCRIPTION = (
    "Pictures in, what a model sees in them out. Errors are one line, "
    '`{"error": {"code", "message"}}`: the code is for programs, the message for people.'
)


def _record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


MODELS = _record(
    models={
        "type": "array",
        "items": _record(
            name={"type": "string"},
            task={"enum": list(get_args(Task))},
            weights={"type": "string", "description": "What --weights of the command line would be called with."},
            options={
                "type": "array",
                "items": {"type": "string"},
                "description": "What else it would be called with to see the same.",
            },
            sha256={"type": "string"},
            image_size={"type": "integer", "description": "Side of the square the model sees, in pixels."},
            classes={
                "type": "array",
                "items": _record(
                    label={"type": "integer"},
                    category_id={"type": "integer"},
                    name={"type": "string"},
                    colour={"type": "string", "description": "As in annotated pictures, #rrggbb."},
                    ink={"type": "string", "description": "Of letters on it."},
                ),
            },
        ),
    },
    limits={"type": "object", "additionalProperties": {"type": "number"}},
)

HEALTH = _record(
    status={"enum": ["ok", "ending"]},
    under_way={"type": "integer"},
    answered={"type": "integer"},
    batches={"type": "integer"},
)

_ERROR = _record(error=_record(code={"enum": list(CODES)}, message={"type": "string"}))


def question_body() -> dict[str, Any]:
    """The two forms of a request to detect, as OpenAPI's `requestBody`."""
    of_form = Options.model_json_schema()
    file = {"type": "string", "format": "binary", "description": "The image file."}
    form = {**of_form, "properties": {"image": file, **of_form["properties"]}, "required": ["image"]}
    content = {"multipart/form-data": form, "application/json": JsonQuestion.model_json_schema()}
    return {"required": True, "content": {kind: {"schema": schema} for kind, schema in content.items()}}


def answers(ok: str, schema: dict[str, Any], *, refusals: bool = False) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses`: the good one, and those of all refusals where there can be any."""
    found: dict[int | str, dict[str, Any]] = {200: _answer(ok, schema)}
    for code, (status, words) in CODES.items() if refusals else ():
        before = found[status]["description"] + " " if status in found else ""
        found[status] = _answer(f"{before}`{code}`: {words}", _ERROR)
    return found


def _answer(words: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}
