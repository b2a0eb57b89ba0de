import multiprocessing
import subprocess
import sys

import numpy as np
import pytest

from visionkit.data.cache import CacheChoice, ImageCache, cache_choice
from visionkit.errors import UsageError
from visionkit.imaging.halving import halve

# 100 images of 640x480: 640 * 480 * 3 = 921,600 bytes, a quarter and a sixteenth of that for the half and the quarter,
# all multiples of 64: 100 * (921,600 + 230,400 + 57,600) = 120,960,000.
SIZES = np.full((100, 2), (640, 480), np.int32)
NEEDED = 120_960_000


def picture(index, width, height):
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- the choice -------------------------------------------------------------------------------------------------------


def test_auto_takes_a_quarter_of_what_is_available_and_no_more():
    assert cache_choice("auto", SIZES, available=4 * NEEDED) == CacheChoice(True, "100 images cached in RAM, 0.12 GB")
    assert cache_choice("auto", SIZES, available=4 * NEEDED - 4) == CacheChoice(
        False, "images not cached: decoded they take 0.12 GB, more than a quarter of the 0.48 GB of memory available"
    )


def test_words_say_where_workers_have_no_part_in_it(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_choice("ram", SIZES, available=NEEDED).words == (
        "100 images cached in RAM, 0.12 GB, for this process; workers, which are spawned here, read files"
    )


def test_ram_takes_what_there_is():
    assert cache_choice("ram", SIZES, available=NEEDED).use
    with pytest.raises(
        UsageError,
        match=r"cache ram needs 0\.12 GB for 100 decoded images, 0\.05 GB of memory are available; use --cache auto or",
    ):
        cache_choice("ram", SIZES, available=50_000_000)


def test_each_process_has_a_cache_of_its_own():
    two = cache_choice("auto", SIZES, available=8 * NEEDED, processes=2)
    assert two == CacheChoice(True, "100 images cached in RAM, 0.12 GB in each of 2 processes")
    assert cache_choice("auto", SIZES, available=8 * NEEDED - 8, processes=2).words == (
        "images not cached: decoded they take 0.12 GB in each of 2 processes, more than a quarter of the 0.97 GB of "
        "memory available"
    )
    with pytest.raises(UsageError, match=r"^cache ram needs 0\.12 GB in each of 2 processes for 100 decoded images, "):
        cache_choice("ram", SIZES, available=2 * NEEDED - 1, processes=2)


def test_processes_that_torchrun_started_are_counted(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert cache_choice("auto", SIZES, available=10**10).words.endswith(" in each of 3 processes")


def test_maps_beside_the_images_take_memory_too():
    # A byte a pixel: 100 * 640 * 480 = 30,720,000 more.
    assert cache_choice("ram", SIZES, available=NEEDED + 30_720_000, maps=True) == CacheChoice(
        True, "100 images and their maps cached in RAM, 0.15 GB"
    )
    with pytest.raises(UsageError, match=r"^cache ram needs 0\.15 GB for"):
        cache_choice("ram", SIZES, available=NEEDED + 30_719_999, maps=True)


def test_off_is_off():
    assert cache_choice("off", SIZES, available=10**12) == CacheChoice(False, "images not cached")


def test_unknown_name():
    with pytest.raises(UsageError, match="unknown cache 'disk'; choose one of auto, ram, off"):
        cache_choice("disk", SIZES)


def test_sizes_beyond_32_bits_are_added_up_right():
    # 60,000 * 60,000 * 3 * 4 * (1 + 1/4 + 1/16) = 56.7e9 bytes.
    choice = cache_choice("auto", np.full((4, 2), 60_000, np.int32), available=10**10)
    assert "56.70 GB" in choice.words


def test_this_machine_has_memory_for_a_small_dataset():
    assert cache_choice("auto", SIZES[:1]).use


# --- the cache --------------------------------------------------------------------------------------------------------


def test_each_image_comes_back_and_is_loaded_once():
    sizes = np.array([(3, 5), (64, 1), (1, 1), (7, 40)])
    cache = ImageCache(sizes)
    loads = []

    def load(index):
        loads.append(index)
        return picture(index, *sizes[index])

    for index in (2, 0, 3, 1, 1, 0, 2, 3):
        image, *halves = cache.read(index, lambda: load(index))  # noqa: B023
        np.testing.assert_array_equal(image, picture(index, *sizes[index]))
        assert not image.flags.writeable
        assert all(not half.flags.writeable for half in halves)
    assert loads == [2, 0, 3, 1]


def test_halves_lie_beside_the_image_as_far_as_they_have_a_pixel():
    cache = ImageCache(np.array([(9, 6), (7, 3), (1, 5)]))
    for index, (width, height) in enumerate([(9, 6), (7, 3), (1, 5)]):
        whole = picture(index, width, height)
        _, *halves = cache.read(index, lambda: whole)  # noqa: B023
        assert [half.shape[:2] for half in halves] == [[(3, 4), (1, 2)], [(1, 3)], []][index]
        for factor, half in zip((2, 4), halves, strict=False):
            np.testing.assert_array_equal(half, halve(whole, factor))


def test_image_whose_loading_failed_is_tried_again():
    cache = ImageCache(np.array([(4, 4)]))

    def fail():
        raise UsageError("unreadable")

    with pytest.raises(UsageError):
        cache.read(0, fail)
    np.testing.assert_array_equal(cache.read(0, lambda: picture(0, 4, 4))[0], picture(0, 4, 4))


def _fill(cache, index, width, height):
    cache.read(index, lambda: picture(index, width, height))


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there")
def test_what_a_forked_process_read_is_there_for_all():
    cache = ImageCache(np.array([(30, 20), (10, 10)]))
    process = multiprocessing.get_context("fork").Process(target=_fill, args=(cache, 0, 30, 20))
    process.start()
    process.join()
    assert process.exitcode == 0

    def fail():
        raise AssertionError("read again")

    np.testing.assert_array_equal(cache.read(0, fail)[0], picture(0, 30, 20))


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there")
def test_processes_that_read_the_same_images_at_once_get_whole_ones():
    count, side = 40, 64
    program = f"""
import multiprocessing
import numpy as np
from visionkit.data.cache import ImageCache

cache = ImageCache(np.full(({count}, 2), {side}))

def read_all(start):
    for k in range({count}):
        i = (k + start) % {count}
        whole = np.full(({side}, {side}, 3), i, np.uint8)
        assert (cache.read(i, lambda: whole)[0] == whole).all()

context = multiprocessing.get_context("fork")
readers = [context.Process(target=read_all, args=(s,)) for s in (0, 0, 1, 20)]
for reader in readers: reader.start()
for reader in readers: reader.join()
print([reader.exitcode for reader in readers])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[0, 0, 0, 0]"
    assert done.stderr == ""  # no warning of a resource tracker either
