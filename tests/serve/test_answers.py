"""What the server answers: the same as the library, whatever way a picture comes."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_server import BLUE, BOUNDARY, RED, BlockFinder, Client, blocks, form, png, serving
from pictures import encoded, exif, noise
from PIL import Image

from visionkit.predict.colours import class_colour
from visionkit.predict.detect import LoadedImage, detect_loaded
from visionkit.result import result_schema

pytest.importorskip("uvicorn")

PICTURE = blocks(((8, 16, 24, 40), RED), ((40, 8, 56, 32), BLUE))
FILE = png(PICTURE)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(BlockFinder()) as client:
        yield client


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    assert list(result["milliseconds"]) == ["read", "preprocess", "model", "postprocess"]
    return {key: value for key, value in result.items() if key != "milliseconds"}


def test_an_upload_is_answered_as_the_library_does(client: Client) -> None:
    answer = client.upload(FILE, name="some/folder/photo.png")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    ((_, expected),) = detect_loaded(BlockFinder(), [LoadedImage("photo.png", PICTURE)])
    assert without_times(answer.json) == without_times(expected.to_json())
    assert [(item["name"], item["bbox"], item["score"]) for item in answer.json["items"]] == [
        ("red block", [8, 16, 24, 40], 0.9),
        ("blue block", [40, 8, 56, 32], 0.4),
    ]
    assert answer.json["image"] == {"path": "photo.png", "width": 64, "height": 64}
    assert set(answer.json) == set(result_schema()["required"])


def test_every_way_that_a_picture_comes_gets_the_same(client: Client) -> None:
    expected = without_times(client.upload(FILE, name="image").json)
    text = base64.b64encode(FILE).decode()
    lines = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))  # as the program base64 writes it
    for image in (text, lines, f"data:image/png;base64,{text}"):
        assert without_times(client.post({"image": image}).json) == expected


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["red block", "blue block"]),
        ({"conf": 0.5}, ["red block"]),
        ({"conf": 0.05}, ["red block", "blue block", "shadow"]),
        ({"conf": 0.05, "max_det": 2}, ["red block", "blue block"]),
        ({"classes": "blue block"}, ["blue block"]),
        ({"conf": 0, "classes": "shadow, red block"}, ["red block", "shadow"]),
        ({"iou": 0.5}, ["red block", "blue block"]),
    ],
)
def test_options_are_those_of_detect(client: Client, options: dict[str, Any], names: list[str]) -> None:
    assert [item["name"] for item in client.upload(FILE, **options).json["items"]] == names
    as_json = dict(options)
    if "classes" in options:
        as_json["classes"] = [name.strip() for name in options["classes"].split(",")]
    said = {"image": base64.b64encode(FILE).decode(), "name": "photo.png", **as_json}
    assert [item["name"] for item in client.post(said).json["items"]] == names


def test_a_form_names_classes_one_a_field_too(client: Client) -> None:
    one = form({"image": ("photo.png", FILE), "conf": 0.05, "classes": "shadow"})
    body = one.removesuffix(f"--{BOUNDARY}--\r\n".encode()) + form({"classes": "blue block"})
    answer = client.ask("POST", "/v1/detect", body, Content_Type=f"multipart/form-data; boundary={BOUNDARY}")
    assert [item["name"] for item in answer.json["items"]] == ["blue block", "shadow"]


def test_a_picture_is_turned_upright_as_everywhere(client: Client) -> None:
    # Stored lying: EXIF 6 means that its left side belongs on top, so 60x64 stored is 64x60 upright.
    lying = np.ascontiguousarray(PICTURE[:60].swapaxes(0, 1)[::-1])
    answer = client.upload(encoded(Image.fromarray(lying), "PNG", exif=exif(6)))
    assert answer.json["image"] == {"path": "photo.png", "width": 64, "height": 60}
    assert [item["bbox"] for item in answer.json["items"]] == [[8, 16, 24, 40], [40, 8, 56, 32]]


def test_a_name_is_shown_without_folders_and_oddities(client: Client) -> None:
    for name, shown in {
        "C:\\photos\\cat.png": "cat.png",
        "../../a\tb.png": "ab.png",
        "ä" * 300: "ä" * 200,
        "": "image",
    }.items():
        said = {"image": base64.b64encode(FILE).decode(), "name": name}
        assert client.post(said).json["image"]["path"] == shown


def test_classifiers_and_segmenters_answer_too() -> None:
    with serving(BlockFinder(task="classify")) as client:
        answer = client.upload(FILE).json
        assert (answer["task"], [item["name"] for item in answer["items"]]) == (
            "classify",
            ["blue block", "red block", "shadow"],
        )
    with serving(BlockFinder(task="segment")) as client:
        answer = client.upload(FILE).json
        # Both blocks have 16 * 24 = 384 of 4096 pixels; the rest is shadow.
        assert {item["name"]: item["share"] for item in answer["items"]} == {
            "shadow": pytest.approx(3328 / 4096, abs=1e-5),
            "red block": pytest.approx(384 / 4096, abs=1e-5),
            "blue block": pytest.approx(384 / 4096, abs=1e-5),
        }
        assert all(item["mask"]["size"] == [64, 64] for item in answer["items"])


def test_the_model_is_told_without_its_path(client: Client) -> None:
    answer = client.get("/v1/models").json
    (model,) = answer["models"]
    assert (model["name"], model["task"], model["weights"], model["image_size"]) == (
        "block finder", "detect", "best.safetensors", 64,
    )  # fmt: skip
    assert [(row["label"], row["category_id"], row["name"]) for row in model["classes"]] == [
        (0, 3, "red block"), (1, 8, "blue block"), (2, 9, "shadow"),
    ]  # fmt: skip
    assert bytes.fromhex(model["classes"][1]["colour"][1:]) == bytes(class_colour(1))
    assert model["options"] == []
    assert answer["limits"]["upload_bytes"] == 20_000_000


def test_health_counts_what_was_answered() -> None:
    with serving(BlockFinder()) as client:
        assert client.get("/healthz").json == {"status": "ok", "under_way": 0, "answered": 0, "batches": 0}
        client.upload(FILE)
        assert client.get("/healthz").json == {"status": "ok", "under_way": 0, "answered": 1, "batches": 1}


@pytest.mark.skipif(not all(map(shutil.which, ("sh", "curl", "base64", "tr"))), reason="no shell, curl or base64 here")
def test_the_requests_that_the_docs_show_take_a_photo(client: Client, tmp_path: Path) -> None:
    photo = encoded(Image.fromarray(noise(512, 512)), "JPEG", quality=95)
    assert len(photo) > 131_072  # bytes that Linux takes as one argument of a program
    (tmp_path / "photo.jpg").write_bytes(photo)
    script = client.get("/docs.js").body.decode()
    shown = re.search(r"SHELL = \(\) => `([^`]*)`", script)
    assert shown is not None
    words = shown[1].replace('${at("v1/detect")}', f"{client.url}/v1/detect").replace("\\\\", "\\")
    done = subprocess.run(["sh", "-c", words], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30)
    assert [json.loads(line)["image"]["width"] for line in done.stdout.splitlines()] == [512, 512], done.stderr


@pytest.mark.parametrize("path", ["/", "/page.js", "/healthz", "/v1/models", "/openapi.json", "/nowhere", "/v1/detect"])
def test_head_is_get_without_a_body(client: Client, path: str) -> None:
    """Health checks and link checkers ask so."""
    full, head = client.get(path), client.ask("HEAD", path)
    headers, others = (sorted((k, v) for k, v in each.headers.items() if k != "date") for each in (full, head))
    assert (head.status, others, head.body) == (full.status, headers, b"")
    assert int(head.headers["Content-Length"]) == len(full.body) > 0


def test_the_api_describes_itself(client: Client) -> None:
    api = client.get("/openapi.json").json
    assert set(api["paths"]) == {"/v1/detect", "/v1/models", "/healthz"}
    detect = api["paths"]["/v1/detect"]["post"]
    form, body = (
        detect["requestBody"]["content"][kind]["schema"] for kind in ("multipart/form-data", "application/json")
    )
    assert list(form["properties"]) == ["image", "conf", "iou", "max_det", "classes"]
    assert set(body["properties"]) == {*form["properties"], "name"}
    assert body["required"] == form["required"] == ["image"]
    assert set(detect["responses"]) == {"200", "400", "404", "405", "408", "413", "415", "422", "500", "503"}
    assert detect["responses"]["200"]["content"]["application/json"]["schema"] == result_schema()


@pytest.mark.parametrize("address", ["/", "/docs", "/page.css", "/page.js", "/masks.js", "/docs.js", "/sample"])
def test_pages_use_nothing_from_elsewhere(client: Client, address: str) -> None:
    answer = client.get(address)
    assert answer.status == 200
    assert answer.headers["Content-Security-Policy"].startswith(
        "default-src 'none'; script-src 'self'; style-src 'self';"
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if address == "/sample":
        assert answer.body.startswith(b"\xff\xd8\xff")
    else:
        said = answer.body.decode()
        assert "https:" not in said
        assert "http:" not in said.replace("http://www.w3.org/2000/svg", "")  # a name, which nobody fetches


def test_connections_are_kept_and_reused(client: Client) -> None:
    import http.client

    connection = http.client.HTTPConnection(client.host, client.port, timeout=30)
    said = json.dumps({"image": base64.b64encode(FILE).decode()})
    for _ in range(3):
        connection.request("POST", "/v1/detect", said, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert (response.status, response.headers.get("Connection")) == (200, None)
        assert len(json.loads(response.read())["items"]) == 2
    connection.close()
