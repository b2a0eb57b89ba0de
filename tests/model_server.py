"""A server with a model that needs no weights, and a client that says what it got."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.predict.backend import Raw, RawClasses, RawDetections, RawMap
from visionkit.result import Task
from visionkit.score_map import ScoreMap

RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
SIDE = 64
BOUNDARY = "a-boundary"


def blocks(*boxes: tuple[tuple[int, int, int, int], tuple[int, int, int]], side: int = SIDE) -> NDArray[np.uint8]:
    """u8 [side, side, 3]: coloured blocks, each x1 y1 x2 y2, on grey."""
    picture = np.full((side, side, 3), 128, np.uint8)
    for (x1, y1, x2, y2), colour in boxes:
        picture[y1:y2, x1:x2] = colour
    return picture


def png(picture: NDArray[np.uint8]) -> bytes:
    """The file; a PNG loses nothing, so blocks stay where they are."""
    return bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


@dataclass
class BlockFinder:
    """Sees a red block with score 0.9, a blue one with 0.4 and, wherever it looks, a shadow of 0.1 in the upper left
    quarter. Green makes it fail. It remembers the sizes of its batches.

    Args:
        wait: seconds that it takes for a batch.
        gate: where it is closed, it waits for it too.
        reached: set when it has been asked.
    """

    task: Task = "detect"
    wait: float = 0.0
    masks: bool = False
    name: str = "block finder"
    sha256: str = "0" * 64
    classes: ClassTable = field(default_factory=lambda: ClassTable((3, 8, 9), ("red block", "blue block", "shadow")))
    image_size: int = SIDE
    batches: list[int] = field(default_factory=list)
    score_map: ScoreMap | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def run(self, images: NDArray[np.uint8], *, score: float, iou: float | None, max_det: int) -> list[Raw]:
        self.reached.set()
        self.gate.wait()
        time.sleep(self.wait)
        self.batches.append(len(images))
        if any((image == GREEN).all(axis=2).any() for image in images):
            raise RuntimeError("green at /secret/place")
        return [self._see(image, score, max_det) for image in images]

    def _see(self, image: NDArray[np.uint8], score: float, max_det: int) -> Raw:
        if self.task == "classify":
            return RawClasses(np.array([0.7, 0.2, 0.1], np.float32), np.array([1, 0, 2]))
        seen = [(image == colour).all(axis=2) for colour in (RED, BLUE)]
        if self.task == "segment":
            return RawMap(np.stack([*seen, ~(seen[0] | seen[1])]).astype(np.float32))
        found = [(box_of(mask), value, label) for mask, value, label in zip(seen, (0.9, 0.4), (0, 1), strict=True)]
        found = [each for each in found if each[0] is not None] + [([0, 0, SIDE // 2, SIDE // 2], 0.1, 2)]
        found = [each for each in found if each[1] >= score][:max_det]
        return RawDetections(
            np.array([box for box, _, _ in found], np.float32).reshape(-1, 4),
            np.array([value for _, value, _ in found], np.float32),
            np.array([label for _, _, label in found], np.int64),
            np.ones((len(found), 28, 28), np.float32) if self.masks else None,
        )


def box_of(mask: NDArray[np.bool_]) -> list[int] | None:
    """x1 y1 x2 y2 of what is true, None where nothing is."""
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


@dataclass(frozen=True)
class Answer:
    """What a request got."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """`code: message`."""
        error = self.json["error"]
        assert set(error) == {"code", "message"}
        assert "\n" not in error["message"]
        return f"{error['code']}: {error['message']}"


@dataclass(frozen=True)
class Client:
    """Asks a server, a connection a request."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Header names with `_` for `-`."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def upload(self, file: bytes, *, name: str = "photo.png", **fields: Any) -> Answer:
        """A picture as the file of a form."""
        body = form({"image": (name, file), **fields})
        return self.ask("POST", "/v1/detect", body, Content_Type=f"multipart/form-data; boundary={BOUNDARY}")

    def post(self, value: Any) -> Answer:
        """JSON."""
        return self.ask("POST", "/v1/detect", json.dumps(value), Content_Type="application/json")


def form(fields: dict[str, Any]) -> bytes:
    """The body of a form (RFC 7578); a pair is a file's name and content."""
    parts = []
    for key, value in fields.items():
        name, content = value if isinstance(value, tuple) else (None, str(value).encode())
        file = "" if name is None else f'; filename="{name}"\r\nContent-Type: application/octet-stream'
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"{file}\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@contextmanager
def serving(
    backend: Any, *, errors: list[Exception] | None = None, options: tuple[str, ...] = (), **limits: Any
) -> Iterator[Client]:
    """A server on a port of its own, in a thread, until it is no longer needed.

    Args:
        options: that it says it was started with.
    """
    import uvicorn

    from visionkit.serve.app import Served, make_app
    from visionkit.serve.limits import Limits
    from visionkit.serve.server import listen, server_of

    noted = [] if errors is None else errors
    model = Served(backend, backend.task, "best.safetensors", options=options)
    app = make_app(model, limits=Limits(**limits), on_error=noted.append)
    with listen("127.0.0.1", 0) as listening:
        server: uvicorn.Server = server_of(app, grace_seconds=10)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            client = Client(*listening.getsockname())
            assert client.get("/healthz").status == 200
            yield client
        finally:
            server.should_exit = True
            thread.join()
    assert errors is not None or noted == []
