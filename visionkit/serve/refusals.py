"""What a server says no with: a status, a code for programs, and a line for people."""

from __future__ import annotations

from typing import Literal

from starlette.responses import JSONResponse

from visionkit.errors import VisionkitError

Code = Literal[
    "bad_request",
    "bad_option",
    "bad_image",
    "media_type",
    "not_found",
    "not_allowed",
    "too_large",
    "too_many_pixels",
    "too_slow",
    "busy",
    "out_of_time",
    "internal",
]
"""Names of refusals, part of the API: programs decide by them."""

CODES: dict[Code, tuple[int, str]] = {
    "bad_request": (400, "The body is no form and no JSON object that holds a picture."),
    "not_found": (404, "Nothing is at this address."),
    "not_allowed": (405, "The address exists, the method does not."),
    "too_slow": (408, "The upload did not arrive in time."),
    "too_large": (413, "The body has too many bytes."),
    "too_many_pixels": (413, "The picture has too many pixels."),
    "media_type": (415, "The body is neither multipart/form-data nor application/json."),
    "bad_image": (422, "The picture is broken or of an unknown format."),
    "bad_option": (422, "An option is unknown or out of range, or the model does not know a class."),
    "internal": (500, "The server failed; its terminal says why."),
    "busy": (503, "Too many pictures wait; Retry-After says after how many seconds to come again."),
    "out_of_time": (503, "The picture was still looked at when its time was over; a smaller one is done sooner."),
}
"""Of each code its HTTP status and what it means."""


class RefusedError(VisionkitError):
    """A request that is not done. The message reads fact, rule, remedy, and tells nothing of the server's files.

    Args:
        retry_after: seconds after which to come again; None says nothing about it.
    """

    def __init__(self, code: Code, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = CODES[code][0]
        self.retry_after = retry_after


def refusal_response(refusal: RefusedError) -> JSONResponse:
    """`{"error": {"code", "message"}}` with the status of the code."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    return JSONResponse({"error": {"code": refusal.code, "message": str(refusal)}}, refusal.status, headers)
