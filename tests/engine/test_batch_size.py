"""How large a batch fits: measured on a CPU, tried elsewhere; and which errors say that memory is out."""

import mmap
import sys
from collections.abc import Callable

import pytest
import torch

from visionkit.data.memory import peak_memory, reset_peak_memory
from visionkit.engine.batch_size import Fit, is_out_of_memory, largest_batch

CPU, GPU = torch.device("cpu"), torch.device("mps")  # of those that are tried, the one that is asked for nothing else

measures = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process had at most")


def hungry(each: int, once: int = 0) -> Callable[[int], None]:
    """A trial that takes so many bytes an image, and some however many there are."""

    def trial(size: int) -> None:
        bytes(bytearray(each * size + once))  # bytes that are written: pages that are there

    return trial


@measures
@pytest.mark.parametrize(("available", "batch"), [(1000, 8), (500, 4), (250, 2), (100, 0)])
def test_on_a_cpu_two_sizes_tell_of_all_others(available: int, batch: int) -> None:
    # Each image takes 2 * 30 MB, for a moment there are two copies: 8 of them 480, and 0.8 of 1000 MB may be taken;
    # of 500 MB 400, where 4 take 240 and 8 no more fit; of 250 MB 200, where 2 take 120.
    fit = largest_batch(hungry(30_000_000), 8, CPU, available * 10**6)
    assert fit.batch == batch
    assert fit.words.startswith("0.06 GB each and 0.0")
    assert fit.words.endswith(f" once, of {available / 1000:.2f} GB available")


@measures
def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionkit.engine.batch_size.available_memory", lambda: 10**9)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    fit = largest_batch(hungry(30_000_000), 8, CPU)
    assert fit.batch == 4  # as of 500 MB above
    assert fit.words.endswith(" once, of 0.50 GB available")


@measures
def test_what_is_taken_once_counts_once() -> None:
    # 2 * 100 MB once and 2 * 10 MB each: 8 images take 360 MB, and would take 880 if all grew with them.
    fit = largest_batch(hungry(10_000_000, 100_000_000), 8, CPU, 500_000_000)
    assert fit.batch == 8
    assert fit.words == "0.02 GB each and 0.20 GB once, of 0.50 GB available"


@measures
def test_the_peak_of_memory_is_since_it_was_asked_for() -> None:
    assert reset_peak_memory()
    before = peak_memory()
    with mmap.mmap(-1, int(1e8)) as memory:  # given back for certain, which an allocator need not do
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1
        high = peak_memory()
    assert before is not None
    assert high is not None
    assert 80e6 < high - before < 130e6
    assert reset_peak_memory()
    low = peak_memory()
    assert low is not None
    assert low < high - 80e6


def failing_from(size: int, message: str = "MPS backend out of memory") -> Callable[[int], None]:
    def trial(asked: int) -> None:
        if asked >= size:
            raise RuntimeError(message)

    return trial


@pytest.mark.parametrize(
    ("first_failure", "fit"),
    [
        (100, Fit(16, "tried on mps")),
        (16, Fit(8, "tried on mps, 16 do not")),
        (9, Fit(8, "tried on mps, 16 do not")),
        (2, Fit(0, "tried on mps, 2 do not")),
    ],
)
def test_elsewhere_powers_of_two_are_tried(first_failure: int, fit: Fit) -> None:
    assert largest_batch(failing_from(first_failure), 31, GPU) == fit


@pytest.mark.parametrize("device", [CPU, GPU])
def test_other_errors_of_a_trial_come_through(device: torch.device) -> None:
    with pytest.raises(RuntimeError, match="sizes do not match"):
        largest_batch(failing_from(2, "sizes do not match"), 8, device)


def test_which_errors_say_that_memory_is_out() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")
    )
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
