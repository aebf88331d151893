"""Writes and reads checkpoint files, from which a run continues or other code takes the model.

A checkpoint is one dictionary of tensors and plain values in a file that `torch.load(weights_only=True)` reads. The weights
stand under `state_dict` and `model`, their average under `state_dict_ema` and `model_ema` (names that share their bytes), where
`timm.create_model(NAME, checkpoint_path=...)` and DeiT's code look for them.

The file is a zip archive whose comment holds the SHA-256 of all bytes before the comment's length. A comment is what other
readers of zip archives leave alone, so the hash travels with the file under any name.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from deit_fast.config import Decides, ModelConfig, RunConfig, UserError, as_now, in_words, without_betons
from deit_fast.record.run import replacing

FORMAT = 2
_COMMENT = b"deit_fast sha256 "
_COMMENT_BYTES = len(_COMMENT) + 64
_READ_BYTES = 1 << 22
_UNREADABLE = (  # what PyTorch raises for a file with wrong bytes; OSError: for one that was cut, as by a broken download
    RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError, zipfile.BadZipFile,
)  # fmt: skip
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
Digests = Mapping[str, Mapping[str, str]]  # of what a file holds, by the option that names it, and what is digested
OF_STAGE = " of stage "  # in the name of a digest: `images of stage 2`


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; it gets its name only after it is complete and on the disk."""
    with replacing(path) as file:
        hashed = _HashedFile(file)
        torch.save({"format": FORMAT, **content}, cast(BinaryIO, hashed))
        hashed.end()


def link_checkpoint(path: Path, name: str) -> None:
    """Give a finished checkpoint a second name in its folder; replaces an existing file of that name.

    A hard link, which costs no bytes; a copy on file systems without hard links (exFAT, SMB shares, FUSE on object stores)."""
    link = path.with_name(f".{name}.{os.getpid()}.part")
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        with path.open("rb") as whole, replacing(path.with_name(name)) as copy:
            shutil.copyfileobj(whole, copy, _READ_BYTES)
        return
    link.replace(path.with_name(name))


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """A checkpoint's content, on the CPU, its hash checked. Raises UserError for what is missing, damaged or not ours."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path}: no such file")
    wanted, got = _hashes(path)
    if wanted is None:
        raise UserError(f"checkpoint {path}: cannot be read: it is damaged, or not a checkpoint of deit_fast")
    if wanted != got:
        raise UserError(
            f"checkpoint {path}: damaged: the SHA-256 of its bytes is {got[:12]}..., it was written with {wanted[:12]}..."
        )
    content = _load(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"checkpoint {path}: not a deit_fast checkpoint of format {FORMAT}")
    return {**content, "config": as_now(content["config"])} if "config" in content else content


def load_any(path: Path | str) -> dict[str, Any]:
    """Content of a file of weights, on the CPU: a checkpoint of ours, of timm or of DeiT's code, or safetensors.

    Safetensors give a dictionary of tensors by name. Raises UserError for a file that is missing, damaged or neither.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights {path}: no such file")
    if _hashes(path)[0] is not None:
        return load_checkpoint(path)
    if path.suffix == ".safetensors":
        try:
            tensors: dict[str, Any] = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"weights {path}: cannot be read: {_first_line(error)}") from None
        return tensors
    content = _load(path)
    if not isinstance(content, Mapping):
        raise UserError(f"weights {path}: want a dictionary of tensors, got {type(content).__name__}")
    return dict(content)


def check_architecture(content: dict[str, Any], path: Path | str, model: ModelConfig, num_classes: int) -> None:
    """Raises UserError if a checkpoint is of another architecture or number of classes than a run's."""
    architecture = content["architecture"]
    theirs = (architecture["name"], architecture["options"], content["num_classes"])
    ours = (model.name, model.options, num_classes)
    if theirs != ours:
        raise UserError(
            f"checkpoint {path}: of another architecture: it holds {_describe(*theirs)}, this run is {_describe(*ours)}"
        )


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], path: Path | str) -> None:
    """Copy weights into a model. Raises UserError if names or shapes differ."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"checkpoint {path}: its weights do not fit the model ({_first_line(error)})") from error


class _HashedFile(io.RawIOBase):
    """A file that hashes what is written to it, in order, and ends a zip archive with the hash as its comment."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._tail = b""  # the last two bytes written, not hashed yet: in the end the comment's length

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self._file.write(view)
        if len(view) >= 2:
            self._hash.update(self._tail)
            self._hash.update(view[:-2])
            self._tail = bytes(view[-2:])
        else:
            joined = self._tail + bytes(view)
            self._hash.update(joined[:-2])
            self._tail = joined[-2:]
        return len(view)

    def end(self) -> None:
        """Set the comment; its length stands in the archive's last two bytes."""
        assert self._tail == b"\0\0", "torch.save ends an archive without a comment"
        self._file.seek(-2, os.SEEK_END)
        self._file.write(_COMMENT_BYTES.to_bytes(2, "little") + _COMMENT + self._hash.hexdigest().encode())


def _hashes(path: Path) -> tuple[str | None, str]:
    """The SHA-256 that a checkpoint of ours was written with, and that of its bytes; None where there is none."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        end = size - _COMMENT_BYTES - 2
        if end < 0:
            return None, ""
        file.seek(end)
        tail = file.read()
        if tail[: 2 + len(_COMMENT)] != _COMMENT_BYTES.to_bytes(2, "little") + _COMMENT:
            return None, ""
        file.seek(0)
        digest = hashlib.sha256()
        while end > 0:
            block = file.read(min(end, _READ_BYTES))
            if not block:
                break
            digest.update(block)
            end -= len(block)
    return tail[2 + len(_COMMENT) :].decode(errors="replace"), digest.hexdigest()


def _load(path: Path) -> Any:
    try:
        # checkpoints of timm and of DeiT's code hold their command line's options as a Namespace, which runs no code
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "WeightsUnpickler" in str(error):
            raise UserError(
                f"checkpoint {path}: holds objects other than tensors and plain values, which may run code when read; "
                "want a file with only tensors"
            ) from error
        raise UserError(f"checkpoint {path}: cannot be read: it is damaged, or not a checkpoint") from error
    except _UNREADABLE as error:
        raise UserError(f"checkpoint {path}: cannot be read: it is damaged, or not a checkpoint") from error


def _describe(name: str, options: dict[str, Any], num_classes: int) -> str:
    given = "".join(f" {key}={value}" for key, value in options.items())
    return f"{name}{given} with {num_classes} classes"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__


def check_same_run(
    content: dict[str, Any], path: Path, config: RunConfig, global_batch_size: int, num_samples: int, digests: Digests
) -> None:
    """Raises UserError if a resumed configuration differs from the checkpoint's in options that affect the (best) weights.

    The number of ranks may change if the global batch stays the same: then the views of each step do too. num_samples: of the
    training beton, which may have moved; one with another number of images has other steps in an epoch.
    """
    had = content.get("num_samples", num_samples)  # older checkpoints do not say
    if had != num_samples:
        raise UserError(
            f"data.train={config.data.train}: has {num_samples} images, checkpoint {path} is of a run on {had}; want that "
            "run's beton, or start a new run"
        )
    if content["global_batch_size"] != global_batch_size:
        raise UserError(
            f"checkpoint {path}: of a run with a global batch of {content['global_batch_size']}, this one has "
            f"{global_batch_size}; choose data.batch_size and the number of ranks so that they agree"
        )
    for key, ours in config.options_that_decide(Decides.WEIGHTS).items():
        section, name = key.split(".")
        theirs = content["config"].get(section, {}).get(name, ours)  # older checkpoints do not have every option
        if key == "schedule.stages":
            theirs, ours = without_betons(theirs), without_betons(ours)
        if theirs != ours:
            had, has = in_words(key, theirs), in_words(key, ours)
            raise UserError(f"checkpoint {path}: of a run with {key}={had}, not {has}; start a new run")
    _check_same_files(content.get("digests", {}), path, config, digests)


def _check_same_files(had: Digests, path: Path, config: RunConfig, digests: Digests) -> None:
    """Raises UserError if a file's content has changed; older checkpoints do not have its digest.

    A digest of a stage of schedule.stages that either side lacks is that of the whole run."""
    own_first = bool(config.schedule.stages) and "data.train" in config.schedule.stages[0]
    for option, ours in digests.items():
        section, name = option.split(".")
        theirs = had.get(option, {})
        for what in dict.fromkeys([*ours, *theirs]):
            of_run, of_stage, number = what.partition(OF_STAGE)
            digest = ours.get(what, ours.get(of_run))
            if theirs.get(what, theirs.get(of_run, digest)) == digest or digest is None:
                continue
            if what == "order" and own_first:  # that of the set shown in the first epoch
                of_stage, number = OF_STAGE, "1"
            where = f"schedule.stages: stage {number}" if of_stage else f"{option}={getattr(getattr(config, section), name)}"
            raise UserError(
                f"{where}: holds other {of_run} than the run of checkpoint {path} had; want the same file, or start a new run"
            )
