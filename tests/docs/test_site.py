"""The pages hang together: every link and anchor resolves, every page is in the menu, and the site builds."""

import importlib.util
import re
import subprocess
import sys
import unicodedata
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from browser import browser
from code_blocks import FENCE

from visionkit.bundled.files import NAME

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
INCLUDED = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """A page without code and comments, and with what it includes."""
    text = INCLUDED.sub(lambda match: (ROOT / match[1]).read_text(encoding="utf-8"), page.read_text(encoding="utf-8"))
    kept, fence = [], None
    for line in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).split("\n"):
        mark = FENCE.match(line)
        if mark and (fence is None or mark[2].startswith(fence)):
            fence = mark[2] if fence is None else None
        elif fence is None and not line.startswith("    "):
            kept.append(line)
    return "\n".join(kept)


def site_anchor(heading: str) -> str:
    """As Python-Markdown's `toc` makes it.

    >>> site_anchor("What is wrong, and what it costs")
    'what-is-wrong-and-what-it-costs'
    """
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def repository_anchor(heading: str) -> str:
    """As forges make it: each blank becomes a hyphen."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Those that both the site and a forge would give the headings of a page."""
    headings = re.findall(r"^#{1,6} +(.+?) *#* *$", prose(page).replace("`", ""), re.MULTILINE)
    return {site_anchor(heading) for heading in headings} & {repository_anchor(heading) for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("*.md")], ids=name_of)
def test_every_internal_link_and_anchor_resolves(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = page if not file else (page.parent / file).resolve()
        assert linked.exists(), f"{name_of(page)} links to {target}, which is not there"
        if page.parent == DOCS:
            assert DOCS in linked.parents, f"{name_of(page)} links to {target}, which the site does not have"
        assert not anchor or anchor in anchors(linked), f"{name_of(page)} links to {target}; {sorted(anchors(linked))}"


def in_menu(entry: Any) -> list[str]:
    """The files of a menu, those of its parts too."""
    if isinstance(entry, str):
        return [entry]
    return [file for part in (entry.values() if isinstance(entry, dict) else entry) for file in in_menu(part)]


def test_every_page_is_in_the_menu_once() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(in_menu(menu)) == [page.name for page in PAGES]


def test_headings_of_a_page_are_in_order() -> None:
    for page in PAGES:
        levels = [len(marks) for marks in re.findall(r"^(#{1,6}) ", prose(page), re.MULTILINE)]
        assert levels[0] == 1, f"{name_of(page)} begins with its title"
        assert levels.count(1) == 1, f"{name_of(page)} has several titles"
        assert all(after <= before + 1 for before, after in pairwise(levels)), name_of(page)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    if importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed (extra docs)")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_page(site: Path) -> None:
    built = {page.stem for page in site.glob("*.html")} - {"404"}
    assert built == {page.stem for page in PAGES}
    assert "Where it fails" in (site / f"{NAME}.html").read_text(encoding="utf-8")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


def test_the_site_loads_nothing_from_elsewhere(site: Path, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server, browser(tmp_path) as page:
        Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}/"
        for name, width in (("index", 1280), ("codes", 390)):
            page.open(f"{here}{name}.html", width=width)
            loaded = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
            assert loaded
            assert not [url for url in loaded if not url.startswith(here)]
            assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.errors == []
        server.shutdown()
