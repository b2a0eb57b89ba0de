"""Devices by name, and when bf16 is used."""

import pytest
import torch

from visionkit.engine.device import choose_device, has_bf16, own_threads, precision
from visionkit.errors import UsageError

CPU = torch.device("cpu")


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu") == CPU


def test_auto_takes_the_fastest_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


@pytest.mark.parametrize(
    "name",
    ["", "gpu", "CUDA", "cpu:0", "cpu:", "cuda:", "cuda:x", "cuda:-1", "cuda:01", "cuda:²", "0", "mps:0", "meta"],
)
def test_other_names_are_refused_with_the_choices(name: str) -> None:
    with pytest.raises(UsageError) as error:
        choose_device(name)
    assert str(error.value) == f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}; use --device auto"


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match="device 'cuda:2' is not here, 2 CUDA devices are; use --device cpu"):
        choose_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="device 'cuda' is not here, 0 CUDA devices are; use --device cpu"):
        choose_device("cuda")


def test_mps_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps") == torch.device("mps")
    with precision(torch.device("mps"), amp=True):  # no bf16 there: what autocast would refuse is not asked for
        assert not torch.is_autocast_enabled("mps")


def test_mps_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device 'mps' is not here; use --device cpu"):
        choose_device("mps")


def test_precision_is_bf16_only_where_asked_for_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(2, 2)
    for amp, there, dtype in (
        (True, True, torch.bfloat16),
        (True, False, torch.float32),
        (False, True, torch.float32),
    ):
        monkeypatch.setattr("visionkit.engine.device.has_bf16", lambda device, there=there: there)
        with precision(CPU, amp):
            assert (x @ x).dtype == dtype


def test_without_onednn_there_is_no_bf16_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert has_bf16(CPU) is False


def test_has_bf16_answers_for_every_device() -> None:
    assert has_bf16(CPU) in {True, False}
    assert has_bf16(torch.device("mps")) is False


def test_of_several_devices_each_process_takes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("cuda:1,3") == torch.device("cuda", 3)
    assert choose_device("cuda") == choose_device("auto") == torch.device("cuda", 1)
    with pytest.raises(
        UsageError, match="device 'cuda:2' is 1 device, each needs a process of its own and here are 2;"
    ):
        choose_device("cuda:2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with pytest.raises(UsageError, match="device 'cuda' is 4 devices, each needs a process of its own and here are 8;"):
        choose_device("cuda")


def test_several_devices_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    with pytest.raises(UsageError) as error:
        choose_device("cuda:0,1")
    assert str(error.value) == (
        "device 'cuda:0,1' is 2 devices, each needs a process of its own and here is 1; start 2 by torchrun "
        "--nproc-per-node 2 -m visionkit finetune"
    )
    with pytest.raises(UsageError, match="device 'cuda:0,2' is not here"):
        choose_device("cuda:0,2")


@pytest.mark.parametrize(
    ("asked", "device", "here", "threads"),
    [
        (0, "cpu", 1, 0),  # torch's own choice
        (6, "cpu", 1, 6),
        (6, "cpu", 2, 3),
        (0, "cpu", 2, 4),  # of 8 cores
        (1, "cpu", 2, 1),
        (6, "cuda:1", 1, 6),
        (6, "cuda:1", 2, 3),  # also what a resumed run remembers of both
        (0, "cuda:1", 2, 0),
    ],
)
def test_processes_share_the_threads(
    asked: int, device: str, here: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert own_threads(asked, torch.device(device), here) == threads
