"""Files that survive: weights as safetensors, the state of a run, both written whole or not at all.

A write goes to a temporary file, is flushed to the disk, and takes its name by a rename. So a name always stands for a
whole file, whatever kills the process. Neither format notices a flipped bit, so both carry a SHA-256 of all they say.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from visionkit.errors import CheckpointError
from visionkit.nn.fingerprint import tensors_sha256
from visionkit.nn.finite import require_finite

METADATA_KEY = "visionkit"
STATE_MAGIC = b"VKSTATE1"


def write_atomically(path: Path, data: bytes, keep: Path | None = None) -> None:
    """Replace a file by `data`, durably: whoever reads it finds the old bytes or the new, never a mixture.

    Args:
        keep: the name that the old file takes, once the new one is whole on the disk.
    """
    # One name for good: what a killed write leaves behind, the next one overwrites.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows has no such call and needs none."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file. The same tensors and metadata give the same bytes.

    Args:
        tensors: a state dict.
        metadata: anything JSON can say; stored sorted, with a hash of it and the tensors, under one key.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    card = {**metadata, "sha256": _content_sha256(contiguous, metadata)}
    write_atomically(path, safetensors.torch.save(contiguous, {METADATA_KEY: _canonical_json(card)}))


def _canonical_json(content: Any) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _content_sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """SHA-256 of all that a weights file says: a changed class name is as bad as a changed weight."""
    return hashlib.sha256(f"{tensors_sha256(tensors)}\n{_canonical_json(metadata)}".encode()).hexdigest()


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a file that `save_weights` wrote.

    Raises:
        CheckpointError: missing, not safetensors, not ours, not the bytes that were written, or not of finite numbers.
    """
    if not path.is_file():
        fact = "is not a file" if path.exists() else "does not exist"
        raise CheckpointError(f"weights file {path} {fact}; give the path of a .safetensors file")
    data = path.read_bytes()
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = json.loads(header.get("__metadata__", {})[METADATA_KEY])
    except KeyError:
        raise CheckpointError(
            f"{path} was not written by visionkit: it has no {METADATA_KEY!r} metadata; give a file that it wrote"
        ) from None
    except (SafetensorError, ValueError):
        raise CheckpointError(f"{path} is not a whole safetensors file; copy or download it again") from None
    sha256 = metadata.pop("sha256", None) if isinstance(metadata, dict) else None
    if sha256 is None or sha256 != _content_sha256(tensors, metadata):
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256; copy or download it again")
    require_finite(tensors, path, "give another weights file")
    return tensors, metadata


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a run's state; the previous one is kept beside it as `state.previous.pt`."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    payload = buffer.getvalue()
    write_atomically(path, STATE_MAGIC + hashlib.sha256(payload).digest() + payload, keep=previous_state(path))


def previous_state(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_state(path: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """The newest whole state at `path`: it, or the previous one if it is missing or damaged.

    Only tensors and plain values are unpickled; nothing in the file is ever run.

    Args:
        say: told, in a line, that the previous one is taken and why.

    Raises:
        CheckpointError: neither is there and whole, or one holds something else.
    """
    previous = previous_state(path)
    for candidate in (path, previous):
        state = _read_state(candidate)
        if state is None:
            continue
        if candidate == previous:
            why = "is damaged: its content does not match its SHA-256" if path.is_file() else "is missing"
            say(f"{path} {why}; going on from the state before it, {previous}")
        return state
    raise CheckpointError(f"no whole training state at {path}; only a run folder with a state.pt can be resumed")


def set_aside_damaged(path: Path) -> None:
    """Call a state that is damaged `state.damaged.pt`: the next save would put it in the place of the whole one before
    it. For a run that begins to write; who only reads may meet a file between two names."""
    if path.is_file() and _whole_payload(path) is None:
        os.replace(path, path.with_name(f"{path.stem}.damaged{path.suffix}"))


def _whole_payload(path: Path) -> bytes | None:
    """What a state's hash is of; None where there is no file, or it has another."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    digest_at = len(STATE_MAGIC)
    digest, payload = data[digest_at : digest_at + 32], data[digest_at + 32 :]
    return payload if data[:digest_at] == STATE_MAGIC and hashlib.sha256(payload).digest() == digest else None


def _read_state(path: Path) -> dict[str, Any] | None:
    payload = _whole_payload(path)
    if payload is None:
        return None
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    # Bytes that are whole but not ours make torch raise half a dozen kinds of errors.
    except Exception:
        state = None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds more than tensors and plain values; resume only what visionkit wrote")
    return state
