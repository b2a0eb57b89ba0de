"""Downloads from a server on this machine: what arrives, what stays of one that broke, and what is said of it."""

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from published_server import NAME, FileServer, free_port, serving

from visionkit.errors import CheckpointError, UsageError, VisionkitError
from visionkit.published import download as module
from visionkit.published.cache import offline_by_environment
from visionkit.published.download import download, published_file

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes
HALF = 512_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("VISIONKIT_OFFLINE", raising=False)
    with serving(BODY) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file belongs, in a cache that is not there yet."""
    monkeypatch.setenv("VISIONKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights" / NAME


def left(path: Path) -> list[str]:
    """What lies in the cache's folder of weights."""
    return sorted(file.name for file in path.parent.iterdir()) if path.parent.exists() else []


def broken(server: FileServer, path: Path, **options: Any) -> VisionkitError:
    """The error of a download that breaks."""
    with pytest.raises(VisionkitError) as caught:
        download(options.pop("published", server.published()), path, **options)
    assert not path.exists()
    return caught.value


PARTS = [f"{NAME}.part", f"{NAME}.part.validator"]


# Good ones ------------------------------------------------------------------------------------------------------------


def test_a_file_is_named_first_and_then_downloaded_once(server: FileServer, path: Path) -> None:
    said: list[str] = []
    seen: list[tuple[int, int]] = []
    published = server.published()
    assert published_file("weights", published, say=said.append, progress=lambda *at: seen.append(at)) == path
    assert path.read_bytes() == BODY
    assert said == [
        f"Downloading {server.url}",
        f"  1,024,000 bytes, SHA-256 {published.sha256}",
        f"  to {path}",
        "  licence: made for this test, CC0",
    ]
    assert seen == sorted(seen)
    assert seen[-1] == (1_024_000, 1_024_000)
    assert left(path) == [NAME]
    published_file("weights", published, say=said.append)
    assert (len(said), len(server.asked)) == (4, 1)  # out of the cache, in silence


def test_a_file_of_which_only_eight_digits_and_a_rounded_size_are_known(server: FileServer, path: Path) -> None:
    said: list[str] = []
    published_file("weights", server.published(digits=8, size_within=525), say=said.append)
    assert said[1].startswith("  about 1.0 MB, SHA-256 ")
    assert said[1].endswith("... (first 8 digits of SHA-256 known)")
    assert path.read_bytes() == BODY


def test_a_server_that_declares_no_length(server: FileServer, path: Path) -> None:
    server.declared = False
    download(server.published(), path)
    assert path.read_bytes() == BODY


# Broken off and gone on with ------------------------------------------------------------------------------------------


def test_a_truncated_body_is_an_error_and_the_next_download_goes_on_there(server: FileServer, path: Path) -> None:
    server.cut = HALF
    error = broken(server, path)
    assert str(error) == (
        f"{server.url} broke off after 512,000 of 1,024,000 bytes (the connection ended); run the command again, it "
        "goes on from there"
    )
    assert error.__notes__ == [f"By hand: download {server.url} elsewhere and save it as {path}"]
    assert left(path) == PARTS
    server.cut = None
    download(server.published(), path)
    assert server.asked == ["", "bytes=512000-"]
    assert path.read_bytes() == BODY
    assert left(path) == [NAME]


def test_a_truncated_body_of_undeclared_length(server: FileServer, path: Path) -> None:
    server.cut, server.declared = HALF, False
    assert "broke off after 512,000 of 1,024,000 bytes" in str(broken(server, path))
    server.cut = None
    download(server.published(), path)
    assert path.read_bytes() == BODY


def test_a_rounded_size_does_not_hide_that_the_last_bytes_are_missing(server: FileServer, path: Path) -> None:
    server.cut = len(BODY) - 100
    published = server.published(size_within=525)
    assert "broke off after 1,023,900 of 1,024,000 bytes" in str(broken(server, path, published=published))
    server.cut = None
    download(published, path)
    assert server.asked == ["", "bytes=1023900-"]
    assert path.read_bytes() == BODY


def test_a_download_killed_just_before_the_end_asks_for_nothing(server: FileServer, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.with_name(PARTS[0]).write_bytes(BODY)
    path.with_name(PARTS[1]).write_text(server.etag)
    download(server.published(), path)
    assert server.asked == []
    assert left(path) == [NAME]


@pytest.mark.parametrize("change", ["another file", "no ranges", "other range"])
def test_where_the_server_does_not_go_on_the_file_is_fetched_whole(change: str, server: FileServer, path: Path) -> None:
    server.cut = HALF
    broken(server, path)
    server.cut = None
    if change == "another file":
        server.body, server.etag = BODY[::-1], '"second"'
    server.ranges = change != "no ranges"
    server.wrong_range = change == "other range"
    download(server.published(), path)
    assert server.asked[:2] == ["", "bytes=512000-"]
    assert len(server.asked) == (3 if change == "other range" else 2)
    assert path.read_bytes() == server.body
    assert left(path) == [NAME]


def test_a_part_longer_than_the_file_is_fetched_again(server: FileServer, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.with_name(PARTS[0]).write_bytes(BODY + b"more")
    path.with_name(PARTS[1]).write_text(server.etag)
    download(server.published(), path)  # the server says 416
    assert server.asked == ["bytes=1024004-", ""]
    assert path.read_bytes() == BODY


def test_without_a_validator_nothing_is_kept_that_could_not_be_gone_on_with(server: FileServer, path: Path) -> None:
    server.etag, server.cut = "", HALF
    assert str(broken(server, path)).endswith("(the connection ended); run the command again")
    assert left(path) == []


def test_a_body_that_never_begins_leaves_nothing(server: FileServer, path: Path) -> None:
    server.cut = 0
    assert "broke off after 0 of 1,024,000 bytes (the connection ended); run the command again" in str(
        broken(server, path)
    )
    assert left(path) == []


def test_a_weak_entity_tag_is_no_validator(server: FileServer, path: Path) -> None:
    server.etag, server.cut = 'W/"first"', HALF
    broken(server, path)
    assert left(path) == []


# Bad ones -------------------------------------------------------------------------------------------------------------


def test_another_file_of_the_same_length_is_deleted(server: FileServer, path: Path) -> None:
    published = server.published()
    server.body = b"x" + BODY[1:]
    message = str(broken(server, path, published=published))
    assert message == (
        f"{server.url} is not what was published: the file that came has SHA-256 {server.published().sha256}, not "
        f"{published.sha256}; it was deleted; try again later, or in another network"
    )
    assert left(path) == []


@pytest.mark.parametrize("declared", [True, False])
def test_a_file_of_another_length_such_as_a_login_page(declared: bool, server: FileServer, path: Path) -> None:
    published = server.published()
    server.body, server.declared = BODY + b"more", declared
    message = str(broken(server, path, published=published))
    if declared:  # refused before it is fetched
        assert message == (
            f"{server.url} is not what was published: its server has 1,024,004 bytes, not 1,024,000 bytes; try again "
            "later, or in another network"
        )
    else:
        assert "the file that came has 1,024,004 bytes, not 1,024,000 bytes; it was deleted" in message
    assert left(path) == []


def test_a_body_without_end_is_not_fetched_to_its_end(server: FileServer, path: Path) -> None:
    published, seen = server.published(), [0]
    server.body, server.declared = BODY * 20, False
    broken(server, path, published=published, progress=lambda done, total: seen.append(done))
    assert 1_024_000 < seen[-1] <= 1_024_000 + module.PIECE


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "404 Not Found; update visionkit, whose list may know where it is now"),
        (500, "500 Internal Server Error; try again later"),
        (403, "403 Forbidden; try again later"),
    ],
)
def test_a_server_that_refuses(status: int, words: str, server: FileServer, path: Path) -> None:
    server.status = status
    error = broken(server, path)
    assert str(error) == f"{server.url} was refused: {words}"
    assert error.__notes__ == [f"By hand: download {server.url} elsewhere and save it as {path}"]
    assert left(path) == []


def test_a_server_that_refuses_for_a_while_costs_nothing_of_what_is_here(server: FileServer, path: Path) -> None:
    server.cut = HALF
    broken(server, path)
    server.status = 500
    broken(server, path)
    assert left(path) == PARTS
    assert path.with_name(PARTS[0]).stat().st_size == HALF


def test_no_server(server: FileServer, path: Path) -> None:
    server.port = free_port()
    assert str(broken(server, path)) == f"{server.url} cannot be reached (Connection refused); check the network"
    assert left(path) == []


def test_a_server_that_does_not_answer(server: FileServer, path: Path) -> None:
    server.wait = 1
    assert str(broken(server, path, timeout=0.1)) == (
        f"{server.url} cannot be reached (no answer for 0.1 s); check the network, or try again later"
    )
    assert left(path) == []


def test_a_server_that_falls_silent(server: FileServer, path: Path) -> None:
    server.cut, server.stall = HALF, 1
    message = str(broken(server, path, timeout=0.2))
    assert "broke off after 512,000 of 1,024,000 bytes (nothing came for 0.2 s); run the command again" in message
    assert left(path) == PARTS


# This machine ---------------------------------------------------------------------------------------------------------


def test_a_disk_without_room_is_noticed_before_anything_is_fetched(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=300_000))
    message = str(broken(server, path))
    assert message == (
        f"{path}.part cannot be written ({NAME} needs 1.0 MB more, 0.3 MB are free); make room, or move the cache by "
        "the variable VISIONKIT_CACHE"
    )
    assert left(path) == []


def test_a_disk_that_fills_up_gets_its_room_back(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "cannot be written (No space left on device); make room" in str(broken(server, path))
    assert left(path) == []


def test_a_cache_that_is_a_file(server: FileServer, path: Path) -> None:
    path.parent.parent.write_text("")
    with pytest.raises(VisionkitError, match=r"cannot be written \((Not a directory|File exists)\)"):
        download(server.published(), path)


def test_one_of_two_processes_waits_and_takes_what_the_other_brought(server: FileServer, path: Path) -> None:
    path.parent.mkdir(parents=True)
    said: list[str] = []
    waits = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waits.set()

    with ThreadPoolExecutor() as pool, open(path.with_name(PARTS[0]), "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # a lock is held by an open file: in this process as in another
        waiting = pool.submit(download, server.published(), path, say=say)
        assert waits.wait(10)
        assert not waiting.done()
        other.write(BODY)
        os.replace(path.with_name(PARTS[0]), path)
        other.close()
        waiting.result(10)
    assert said == ["  another process is downloading it; waiting for that"]
    assert server.asked == []
    assert left(path) == [NAME]


def test_where_the_other_gave_up_the_one_that_waited_downloads(server: FileServer, path: Path) -> None:
    path.parent.mkdir(parents=True)
    waits = threading.Event()
    with ThreadPoolExecutor() as pool, open(path.with_name(PARTS[0]), "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = pool.submit(download, server.published(), path, say=lambda line: waits.set())
        assert waits.wait(10)
        path.with_name(PARTS[0]).unlink()
        other.close()
        waiting.result(10)
    assert server.asked == [""]
    assert path.read_bytes() == BODY
    assert left(path) == [NAME]


def test_what_another_process_finished_meanwhile_is_taken(server: FileServer, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    download(server.published(), path)
    assert server.asked == []
    assert left(path) == [NAME]


# The cache ------------------------------------------------------------------------------------------------------------


def test_a_damaged_file_in_the_cache_is_never_used(server: FileServer, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY[:HALF])
    with pytest.raises(CheckpointError) as caught:
        published_file("weights", server.published())
    assert str(caught.value) == (
        f"{path} is damaged: it has 512,000 bytes, not 1,024,000 bytes; delete it and run the command again"
    )
    assert path.exists()  # it may be somebody's work: deleting it is their decision


@pytest.mark.parametrize("how", ["option", "variable"])
def test_offline_says_which_file_to_put_where(
    how: str, server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONKIT_OFFLINE", "0" if how == "option" else "1")
    published, offline = server.published(), how == "option"
    with pytest.raises(UsageError) as caught:
        published_file("weights imagenet for resnet18", published, offline=offline)
    forbids = "--offline" if offline else "VISIONKIT_OFFLINE in the environment"
    assert str(caught.value) == (
        f"weights imagenet for resnet18 are not in the cache, and {forbids} forbids to download them; put {server.url} "
        f"there by hand, as {path}"
    )
    assert (server.asked, left(path)) == ([], [])
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    assert published_file("weights imagenet for resnet18", published, offline=offline) == path


def test_nothing_but_zero_and_empty_mean_online(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, offline in (("", False), ("0", False), ("1", True), ("yes", True)):
        monkeypatch.setenv("VISIONKIT_OFFLINE", value)
        assert offline_by_environment() is offline
