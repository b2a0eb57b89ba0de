"""Files that survive: the same bytes each time, every damage noticed, every kill outlived, no code run."""

import hashlib
import io
import os
import pickle
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from visionkit.engine.checkpoint import (
    STATE_MAGIC,
    load_state,
    load_weights,
    previous_state,
    save_state,
    save_weights,
    set_aside_damaged,
    tensors_sha256,
    write_atomically,
)
from visionkit.errors import CheckpointError

METADATA = {"classes": [{"id": 3, "name": "Käfer"}], "lr": 1e-3, "epoch": 7, "none": None}


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(2, 3, generator=generator),
        "half": torch.randn(3, generator=generator).bfloat16(),
        "count": torch.tensor(5),
        "empty": torch.zeros(0, 4),
        "mask": torch.tensor([True, False]),
    }


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype
        assert torch.equal(tensor, b[name])


# Writing --------------------------------------------------------------------------------------------------------------


def test_a_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"a long first content")
    write_atomically(path, b"short")
    assert path.read_bytes() == b"short"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_file_modes_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    # safetensors' own writer gives 0600 to every file, which colleagues then cannot read.
    before = os.umask(umask)
    try:
        save_weights(tmp_path / "w.safetensors", tensors(), {})
        save_state(tmp_path / "state.pt", {})
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == mode


# The tensors' hash ----------------------------------------------------------------------------------------------------


def test_hash_depends_on_values_names_types_and_shapes_alone() -> None:
    one = torch.arange(6.0).view(2, 3)
    known = tensors_sha256({"a": one, "b": one})
    assert known == tensors_sha256({"b": one, "a": one})  # order
    assert known == tensors_sha256({"a": one.t().contiguous().t(), "b": one})  # memory layout
    for other in (
        {"a": one, "c": one},
        {"a": one, "b": one + 1e-6},
        {"a": one, "b": one.view(3, 2)},
        {"a": one, "b": one.view(torch.int32)},
        {"a": one},
    ):
        assert known != tensors_sha256(other)


def test_hash_tells_0_from_minus_0() -> None:
    assert tensors_sha256({"a": torch.tensor(0.0)}) != tensors_sha256({"a": torch.tensor(-0.0)})


# Weights --------------------------------------------------------------------------------------------------------------


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", tensors(), METADATA)
    loaded, metadata = load_weights(tmp_path / "w.safetensors")
    assert_equal(loaded, tensors())
    assert metadata == METADATA


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, {**tensors(), "bias": torch.tensor([0.0, float("nan")])}, METADATA)
    with pytest.raises(CheckpointError) as error:
        load_weights(path)
    assert str(error.value) == (
        f"{path} has 1 of 2 numbers in bias that are NaN or infinite, weights must be finite; give another weights file"
    )
    # What is damaged besides is told as that: the bytes are not those that were written.
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_weights(path)


def test_channels_last_weights_come_back(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    save_weights(tmp_path / "w.safetensors", {"weight": weight}, {})
    assert_equal(load_weights(tmp_path / "w.safetensors")[0], {"weight": weight})


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    save_weights(tmp_path / "a", tensors(), METADATA)
    save_weights(tmp_path / "b", dict(reversed(tensors().items())), dict(reversed(METADATA.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('aé"\\ ', max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(json_values)
def test_any_metadata_comes_back(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(path, {"a": torch.zeros(1)}, {"value": value})
    assert load_weights(path)[1] == {"value": value}


def test_every_single_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, {"w": torch.tensor([1.0, 2])}, {"classes": [{"id": 3, "name": "cat"}], "lr": 0.01})
    whole = path.read_bytes()
    unnoticed = []
    for position in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            load_weights(path)
        except CheckpointError:
            continue
        unnoticed.append(position)
    assert not unnoticed


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, tensors(), METADATA)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is not a whole safetensors file; copy or download it again"):
            load_weights(path)


def test_a_changed_weight_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, tensors(), METADATA)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        load_weights(path)
    assert str(error.value) == (f"{path} is damaged: its content does not match its SHA-256; copy or download it again")


def test_a_safetensors_file_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "timm.safetensors"
    for metadata in (None, {"format": "pt"}):
        safetensors.torch.save_file({"w": torch.zeros(2)}, path, metadata)
        with pytest.raises(CheckpointError, match="was not written by visionkit: it has no 'visionkit' metadata"):
            load_weights(path)


@pytest.mark.parametrize("card", ["[]", "3", '"text"', "{}", '{"sha256": null}', '{"sha256": 5}'])
def test_metadata_that_only_looks_like_ours(tmp_path: Path, card: str) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2)}, path, {"visionkit": card})
    with pytest.raises(CheckpointError, match="is damaged"):
        load_weights(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip", b"\x80\x02}q\x00.", b"\xff" * 64, b"\0" * 64, b"text\n" * 9]
)
def test_a_file_that_is_not_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load_weights(path)


def test_no_file_and_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as missing:
        load_weights(tmp_path / "no.safetensors")
    with pytest.raises(CheckpointError) as folder:
        load_weights(tmp_path)
    remedy = "give the path of a .safetensors file"
    assert str(missing.value) == f"weights file {tmp_path / 'no.safetensors'} does not exist; {remedy}"
    assert str(folder.value) == f"weights file {tmp_path} is not a file; {remedy}"


# State ----------------------------------------------------------------------------------------------------------------


def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {"model": tensors(), "epoch": 3, "losses": {"box": 0.5}, "history": [{"AP": None, "lr": 1e-3}], "name": "ü"}
    save_state(tmp_path / "state.pt", state)
    loaded = load_state(tmp_path / "state.pt")
    assert_equal(loaded.pop("model"), state.pop("model"))
    assert loaded == state


def test_optimizer_state_comes_back(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    save_state(tmp_path / "state.pt", {"optimizer": optimizer.state_dict()})
    loaded = load_state(tmp_path / "state.pt")["optimizer"]
    assert torch.equal(loaded["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_the_previous_state_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    for step in range(3):
        save_state(path, {"step": step})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.previous.pt", "state.pt"]
    assert load_state(path) == {"step": 2}
    assert load_state(previous_state(path)) == {"step": 1}


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "a flipped bit":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif how == "foreign":
        torch.save({"step": 99}, path)


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "a flipped bit", "foreign"])
def test_a_damaged_state_falls_back_to_the_previous(tmp_path: Path, how: str) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})
    save_state(path, {"step": 2})
    said: list[str] = []
    assert load_state(path, said.append) == {"step": 2}
    assert said == []
    damage(path, how)
    assert load_state(path, said.append) == {"step": 1}
    why = "is missing" if how == "missing" else "is damaged: its content does not match its SHA-256"
    assert said == [f"{path} {why}; going on from the state before it, {previous_state(path)}"]


def test_a_damaged_state_never_takes_the_place_of_the_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})
    save_state(path, {"step": 2})
    damage(path, "a flipped bit")
    damaged = path.read_bytes()
    set_aside_damaged(path)
    assert (tmp_path / "state.damaged.pt").read_bytes() == damaged
    save_state(path, {"step": 1})  # as a run does that goes on
    damage(path, "truncated")
    assert load_state(path) == {"step": 1}


def test_a_whole_state_stays_where_it_is_and_none_is_none(tmp_path: Path) -> None:
    set_aside_damaged(tmp_path / "state.pt")
    assert list(tmp_path.iterdir()) == []
    save_state(tmp_path / "state.pt", {"step": 1})
    set_aside_damaged(tmp_path / "state.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "a flipped bit", "foreign"])
def test_where_no_state_is_whole_it_says_so(tmp_path: Path, how: str) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})
    damage(path, how)
    with pytest.raises(CheckpointError) as error:
        load_state(path)
    assert str(error.value) == f"no whole training state at {path}; only a run folder with a state.pt can be resumed"


SAVE_FOR_EVER = """
import sys, torch
from pathlib import Path
from visionkit.engine.checkpoint import save_state
path, step = Path(sys.argv[1]), 0
while True:
    step += 1
    save_state(path, {"step": step, "weights": torch.full((100_000,), float(step))})
    if step == 2:
        print("started", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_kill_at_any_moment_leaves_a_whole_state(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    for kill in range(4):
        with subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"started\n"
            time.sleep(0.05 + 0.031 * kill)
            process.send_signal(signal.SIGKILL)
        state = load_state(path)
        assert torch.equal(state["weights"], torch.full((100_000,), float(state["step"])))
        assert state["step"] >= 2


# Strangers' pickles ---------------------------------------------------------------------------------------------------


class Evil:
    """Unpickled by an ordinary unpickler, it would make a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def with_our_seal(payload: bytes) -> bytes:
    return STATE_MAGIC + hashlib.sha256(payload).digest() + payload


def evil_payloads(trace: Path) -> dict[str, bytes]:
    zipped = io.BytesIO()
    torch.save({"model": Evil(trace)}, zipped)
    return {"as torch saves": zipped.getvalue(), "bare": pickle.dumps(Evil(trace), protocol=2)}


@pytest.mark.parametrize("kind", ["as torch saves", "bare"])
def test_code_in_a_state_is_refused_and_never_run(tmp_path: Path, kind: str) -> None:
    path, trace = tmp_path / "state.pt", tmp_path / "trace"
    payload = evil_payloads(trace)[kind]

    path.write_bytes(payload)
    with pytest.raises(CheckpointError, match="no whole training state"):
        load_state(path)

    path.write_bytes(with_our_seal(payload))
    with pytest.raises(CheckpointError) as error:
        load_state(path)
    assert str(error.value) == f"{path} holds more than tensors and plain values; resume only what visionkit wrote"
    assert not trace.exists()

    # The same bytes do run where pickles are trusted: the test would notice.
    with suppress(RuntimeError):
        torch.load(io.BytesIO(payload), weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize(
    "payload", [b"", b"text", b"PK\x03\x04", pickle.dumps([1, 2], protocol=2), pickle.dumps(3, protocol=2)]
)
def test_sealed_nonsense_is_refused(tmp_path: Path, payload: bytes) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(with_our_seal(payload))
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values"):
        load_state(path)


def test_a_pickle_named_as_weights_is_refused(tmp_path: Path) -> None:
    path, trace = tmp_path / "w.safetensors", tmp_path / "trace"
    path.write_bytes(evil_payloads(trace)["as torch saves"])
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load_weights(path)
    assert not trace.exists()


# A full disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_leaves_the_old_state_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})
    usual = open

    def onto_a_full_disk(file: Any, mode: str = "r", **how: Any) -> Any:
        return usual("/dev/full" if mode == "wb" else file, mode, **how)

    monkeypatch.setattr("builtins.open", onto_a_full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        save_state(path, {"step": 2, "weights": torch.zeros(100_000)})
    monkeypatch.undo()
    assert load_state(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]
