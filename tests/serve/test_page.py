"""The page in a real browser: pictures come in, the slider filters, keys move, nothing is logged as an error."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from browser import Page, browser
from model_server import BLUE, RED, BlockFinder, Client, blocks, png, serving
from pictures import encoded
from pycocotools import mask as coco_mask

from visionkit.classes import ClassTable, listed_names
from visionkit.score_map import ScoreMap

pytest.importorskip("uvicorn")

PICTURE = blocks(((8, 16, 24, 40), RED), ((40, 8, 56, 32), BLUE))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(BlockFinder(masks=True)) as client:
        yield client


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(chromium: Page, client: Client) -> Page:
    """The page, just opened."""
    chromium.errors.clear()
    chromium.open(client.url + "/")
    chromium.wait_for("document.getElementById('title').textContent === 'block finder'")
    return chromium


def text(page: Page, selector: str) -> Any:
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def count(page: Page, selector: str) -> Any:
    return page.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")


def file_of(picture: bytes, name: str) -> str:
    """JavaScript that makes a DataTransfer with a file."""
    return (
        f"(() => {{ const data = new DataTransfer(); "
        f"data.items.add(new File([new Uint8Array({list(picture)})], {json.dumps(name)}, {{ type: 'image/png' }})); "
        "return data; })()"
    )


def choose_file(page: Page, picture: bytes, name: str = "photo.png") -> None:
    """What the browser does when a user has chosen a file."""
    page.evaluate(
        f"(() => {{ const input = document.getElementById('file'); input.files = {file_of(picture, name)}.files; "
        "input.dispatchEvent(new Event('change')); })()"
    )
    page.wait_for("document.getElementById('findings').getAttribute('aria-busy') === 'false'")


def slide(page: Page, value: float) -> None:
    page.evaluate(
        f"(() => {{ const slider = document.getElementById('threshold'); slider.value = {value}; "
        "slider.dispatchEvent(new Event('input')); })()"
    )


def names(page: Page) -> Any:
    return page.evaluate("[...document.querySelectorAll('#table tbody button')].map(b => b.textContent)")


def test_the_page_says_what_the_model_is(page: Page) -> None:
    assert text(page, "#facts") == "detect, 3 classes, sees pictures at 64 px: red block, blue block, shadow"
    assert text(page, "#summary") == "Nothing yet: there is no picture."
    assert page.evaluate("document.getElementById('take').hidden")
    assert page.errors == []


def test_a_sample_is_one_click_away(page: Page) -> None:
    page.click("#sample")
    page.wait_for("document.getElementById('picture-facts').textContent.startsWith('sample.jpg, ')")
    page.wait_for("!document.getElementById('controls').hidden")
    slide(page, 0.05)
    assert names(page) == ["shadow"]  # the rendered sample has no red or blue block
    assert page.errors == []


def test_boxes_table_and_slider(page: Page) -> None:
    choose_file(page, png(PICTURE))
    assert names(page) == ["red block", "blue block"]
    assert count(page, "#boxes rect.line") == count(page, "#names span") == 2
    assert text(page, "#summary").startswith("2 objects, 1 more not shown; ")
    slide(page, 0.05)
    assert names(page) == ["red block", "blue block", "shadow"]
    assert text(page, "#summary").startswith("3 objects; ")
    slide(page, 0.5)
    assert names(page) == ["red block"]
    # The box of the red block: 8 16 24 40 in a picture of 64 x 64.
    box = page.evaluate("['x', 'y', 'width', 'height'].map(a => document.querySelector('#boxes rect').getAttribute(a))")
    assert box == ["8", "16", "16", "24"]
    frame, inside = page.evaluate(
        "['#picture', '#boxes rect.line'].map(s => { const r = document.querySelector(s).getBoundingClientRect(); "
        "return [r.x, r.y, r.width, r.height]; })"
    )
    scale = frame[2] / 64
    np.testing.assert_allclose(inside, [frame[0] + 8 * scale, frame[1] + 16 * scale, 16 * scale, 24 * scale], atol=1)
    assert text(page, "#threshold-value") == "0.50"
    slide(page, 0.95)
    assert text(page, "#summary").startswith("No object, 3 more not shown; ")
    assert page.errors == []


def test_a_calibrated_models_scores_come_with_their_worth(page: Page) -> None:
    scores = "[...document.querySelectorAll('#table tbody td:nth-child(2)')].map(cell => cell.textContent)"
    choose_file(page, png(PICTURE))
    assert page.evaluate(scores) == ["0.90", "0.40"]
    worth = ScoreMap("isotonic", points=((0.0, 0.0), (1.0, 0.5)))
    with serving(BlockFinder(score_map=worth), options=("--imgsz", "64")) as calibrated:
        page.open(calibrated.url + "/")
        page.wait_for("document.getElementById('title').textContent === 'block finder'")
        choose_file(page, png(PICTURE))
        assert page.evaluate(scores) == ["0.90 (45 %)", "0.40 (20 %)"]
        # The command sees what this server sees.
        said = "visionkit detect photo.png --weights best.safetensors --imgsz 64 --conf 0.25"
        assert text(page, "#command") == said
    assert page.errors == []


def test_names_with_commas_are_copied_as_the_command_takes_them(page: Page) -> None:
    names = ("red, a block", "blue block", '"shadow"')
    with serving(BlockFinder(classes=ClassTable((3, 8, 9), names))) as client:
        page.open(client.url + "/")
        page.wait_for("document.getElementById('title').textContent === 'block finder'")
        choose_file(page, png(PICTURE))
        page.click("#classes button:last-child")
        words = shlex.split(text(page, "#command"))
        assert listed_names(words[words.index("--classes") + 1]) == [names[0], names[2]]
        words = shlex.split(text(page, "#curl"))
        asked = words[words.index("--form-string") + 1].removeprefix("classes=")
        found = client.upload(png(PICTURE), classes=asked, conf=0.05).json["items"]
        assert [item["name"] for item in found] == [names[0], names[2]]
    assert page.errors == []


def test_what_is_copied_is_what_is_shown(page: Page, client: Client) -> None:
    choose_file(page, png(PICTURE), "it's a photo.png")
    slide(page, 0.3)
    assert text(page, "#command") == "visionkit detect 'it'\\''s a photo.png' --weights best.safetensors --conf 0.30"
    assert text(page, "#curl") == (
        f"curl -F 'image=@it'\\''s a photo.png' -F conf=0.30 {client.url}/v1/detect"
    )  # fmt: skip
    shown = json.loads(text(page, "#json"))
    expected = client.upload(png(PICTURE), name="it's a photo.png", conf=0.3).json
    assert {**shown, "milliseconds": 0} == {**expected, "milliseconds": 0}
    page.click("#classes button:last-child")
    assert names(page) == ["red block"]
    assert text(page, "#command").endswith("--conf 0.30 --classes 'red block,shadow'")
    assert "-F conf=0.30 --form-string 'classes=red block,shadow' http" in text(page, "#curl")
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    for button, said in (("#copy-command", "#command"), ("#copy-curl", "#curl")):
        page.click(button)
        page.wait_for("window.copied !== undefined")
        assert page.evaluate("window.copied") == text(page, said)
    page.click("#copy-json")
    page.wait_for("window.copied.startsWith('{')")
    assert json.loads(page.evaluate("window.copied")) == json.loads(text(page, "#json"))
    assert text(page, "#copied") == "Copied the JSON."
    assert page.errors == []


def test_the_old_way_to_copy_where_there_is_no_clipboard(page: Page) -> None:
    choose_file(page, png(PICTURE))
    page.evaluate("navigator.clipboard.writeText = async () => { throw new Error('no'); }")
    page.click("#copy-command")
    page.wait_for("document.getElementById('copied').textContent === 'Copied the command.'")
    assert page.errors == []


def test_keys_alone_are_enough(page: Page) -> None:
    choose_file(page, png(PICTURE))
    page.evaluate("document.getElementById('threshold').focus()")
    for _ in range(3):
        page.press("ArrowRight")
    assert text(page, "#threshold-value") == "0.28"
    page.evaluate("document.querySelector('#table button').focus()")
    page.press("Enter")
    page.wait_for("document.querySelector('tr.chosen')")
    assert text(page, "tr.chosen button") == "red block"
    assert count(page, "#boxes g.chosen") == 1
    page.press("ArrowDown")
    page.wait_for("document.querySelector('tr.chosen button').textContent === 'blue block'")
    assert page.evaluate("document.activeElement.textContent") == "blue block"
    page.press("Escape")
    page.wait_for("!document.querySelector('tr.chosen')")
    page.evaluate("document.querySelector('#classes button').focus()")
    page.press("Enter")
    page.wait_for("document.querySelectorAll('#table tbody tr').length === 1")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "false"
    # Whatever can be used has a name, and is reached by the tabulator.
    nameless = (
        "[...document.querySelectorAll('button, input, pre')].filter(e => !(e.textContent.trim() "
        "|| e.getAttribute('aria-label') || e.labels?.length)).map(e => e.id)"
    )
    assert page.evaluate(nameless) == []
    assert page.evaluate("[...document.querySelectorAll('button, input, pre')].every(e => e.tabIndex >= 0)")
    assert page.errors == []


def click_at(page: Page, x: float, y: float) -> None:
    """A click at a place of a picture of 64 x 64 pixels."""
    page.wait_for("document.getElementById('picture').complete")
    page.evaluate(
        "(() => { const r = document.getElementById('picture').getBoundingClientRect(); "
        "document.getElementById('picture').dispatchEvent(new MouseEvent('click', { bubbles: true, "
        f"clientX: r.x + r.width * {x} / 64, clientY: r.y + r.height * {y} / 64 }})); }})()"
    )


def test_a_place_in_the_picture_chooses_the_smallest_box_there(page: Page) -> None:
    choose_file(page, png(PICTURE))
    slide(page, 0.05)
    # (12, 20) is in the red block, 16 x 24, and in the shadow, 32 x 32.
    click_at(page, 12, 20)
    assert text(page, "tr.chosen button") == "red block"
    assert page.errors == []


def test_pictures_are_dropped_and_pasted(page: Page) -> None:
    page.evaluate(
        "document.dispatchEvent(new DragEvent('drop', "
        f"{{ dataTransfer: {file_of(png(PICTURE), 'dropped.png')}, cancelable: true }}))"
    )
    page.wait_for("document.querySelectorAll('#table tbody tr').length === 2")
    page.wait_for("document.getElementById('picture-facts').textContent === 'dropped.png, 64 x 64 px'")
    only_blue = png(blocks(((40, 8, 56, 32), BLUE)))
    page.evaluate(
        f"document.dispatchEvent(new ClipboardEvent('paste', {{ clipboardData: {file_of(only_blue, 'pasted.png')} }}))"
    )
    page.wait_for("document.getElementById('picture-facts').textContent === 'pasted.png, 64 x 64 px'")
    page.wait_for("document.querySelectorAll('#table tbody tr').length === 1")
    assert names(page) == ["blue block"]
    assert page.errors == []


def test_a_file_that_is_no_picture_is_told_and_forgotten(page: Page) -> None:
    choose_file(page, b"nothing", "notes.txt")
    assert text(page, "#problem").startswith("notes.txt is not an image of a known format")
    page.wait_for("document.getElementById('invitation').textContent === 'This browser cannot show notes.txt'")
    assert page.evaluate("document.getElementById('controls').hidden && document.getElementById('sheet').hidden")
    choose_file(page, png(PICTURE))
    assert page.evaluate("document.getElementById('problem').hidden && !document.getElementById('sheet').hidden")
    # That a request was refused is all that the browser notes.
    assert [error for error in page.errors if "422" not in error] == []


def test_what_the_server_reads_and_the_browser_does_not_has_its_boxes_too(page: Page) -> None:
    choose_file(page, encoded(PICTURE[:32], "TIFF"), "scan.tif")
    page.wait_for("document.getElementById('picture').hidden")
    assert text(page, "#picture-facts") == "scan.tif, 64 x 32 px, which this browser cannot show"
    width, height = page.evaluate("(({ width, height }) => [width, height])(sheet.getBoundingClientRect())")
    assert width > 300
    assert height == pytest.approx(width / 2, abs=1)
    assert count(page, "#boxes rect.line") == 2
    assert page.errors == []


def test_masks_are_drawn_pixel_by_pixel(page: Page) -> None:
    random = np.random.default_rng(0)
    for height, width, share in ((5, 7, 0.5), (40, 33, 0.3), (1, 9, 0.5), (64, 64, 0.999), (30, 20, 0.0)):
        mask = random.random((height, width)) < share
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        said = json.dumps({"size": [height, width], "counts": rle["counts"].decode()})
        painted = page.evaluate(
            "import('/masks.js').then(({ paintMask }) => { "
            f"const image = new ImageData({width}, {height}); paintMask(image, {said}, [1, 2, 3, 4], 1); "
            "return [...image.data]; })"
        )
        rgba = np.array(painted).reshape(height, width, 4)
        np.testing.assert_array_equal(rgba, mask[..., None] * np.array([1, 2, 3, 4]))


def test_masks_of_a_large_picture_are_drawn_small(page: Page) -> None:
    mask = np.random.default_rng(1).random((60, 80)) < 0.5
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    said = json.dumps({"size": [60, 80], "counts": rle["counts"].decode()})
    painted = page.evaluate(
        "import('/masks.js').then(({ paintMask }) => { const image = new ImageData(20, 15); "
        f"paintMask(image, {said}, [1, 2, 3, 4], 0.25); return [...image.data]; }})"
    )
    # The centre of pixel i is at (i + 0.5) / 0.25 = 4 i + 2 of the picture.
    expected = mask[2::4, 2::4]
    np.testing.assert_array_equal(np.array(painted).reshape(15, 20, 4)[..., 0], expected)


def test_masks_are_shown_and_hidden(page: Page) -> None:
    choose_file(page, png(PICTURE))
    alpha = (
        "(() => { const c = document.getElementById('masks'); "
        "return c.getContext('2d').getImageData(16, 28, 1, 1).data[3]; })()"
    )
    assert page.evaluate(alpha) > 0  # the middle of the red block
    page.click("#show-masks")
    assert page.evaluate(alpha) == 0
    page.click("#show-boxes")
    page.click("#show-names")
    assert count(page, "#boxes rect") == count(page, "#names span") == 0
    assert page.errors == []


@pytest.mark.parametrize(
    ("task", "rows"),
    [("classify", ["blue block0.700"]), ("segment", ["shadow81.3 %", "red block9.4 %", "blue block9.4 %"])],
)
def test_other_tasks_have_their_own_rows(chromium: Page, task: Any, rows: list[str]) -> None:
    with serving(BlockFinder(task=task)) as client:
        chromium.errors.clear()
        chromium.open(client.url + "/")
        chromium.wait_for("document.getElementById('title').textContent === 'block finder'")
        choose_file(chromium, png(PICTURE))
        slide(chromium, 0.9)
        shown = chromium.evaluate("[...document.querySelectorAll('#table tbody tr')].map(r => r.textContent)")
        assert shown == rows
        assert chromium.evaluate("document.getElementById('threshold-row').hidden") == (task == "segment")
        if task == "segment":
            click_at(chromium, 50, 20)  # the blue block goes from (40, 8) to (56, 32)
            assert text(chromium, "tr.chosen button") == "blue block"
        assert text(chromium, "#command").startswith(f"visionkit {task} photo.png --weights best.safetensors")
        assert chromium.errors == []


def test_the_api_is_explained_without_help_from_elsewhere(chromium: Page, client: Client) -> None:
    chromium.errors.clear()
    chromium.open(client.url + "/docs", width=390, height=800)
    chromium.wait_for("document.querySelectorAll('#operations section').length === 3")
    said = text(chromium, "#operations")
    for word in (
        "/v1/detect",
        "Retry-After",
        "too_many_pixels",
        "max_det",
        "Body, application/json",
        "Keys of an item, task segment",
    ):
        assert word in said
    assert "undefined" not in said
    assert f"{client.url}/v1/detect" in text(chromium, "#shell")
    assert chromium.evaluate("document.documentElement.scrollWidth") <= 390
    assert chromium.errors == []


def test_nothing_is_wider_than_a_phone(chromium: Page, client: Client) -> None:
    for width in (390, 1280):
        for dark in (False, True):
            chromium.errors.clear()
            chromium.open(client.url + "/", width=width, height=900, dark=dark)
            chromium.wait_for("document.getElementById('title').textContent === 'block finder'")
            choose_file(chromium, png(PICTURE), "a-file-with-quite-a-long-name-that-has-nowhere-to-break-in-it.png")
            assert chromium.evaluate("document.documentElement.scrollWidth") <= width
            assert chromium.errors == []
