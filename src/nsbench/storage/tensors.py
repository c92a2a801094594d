"""Tensors by name in one safetensors file, with digests that detect a damaged file.

The metadata hold `digests`, the sha256 of each tensor (its name, type, shape and bytes), and `sha256`, that of all
other metadata: so every bit that is read is checked, and a part of a large file costs no more than that part.

Torch and safetensors are imported where they are used only: the workflow looks at run folders while it plans.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nsbench.storage.atomic import AGAIN, FileError, atomic_write, refuse_passing
from nsbench.storage.parquet import RecordError

if TYPE_CHECKING:
    from torch import Tensor

OWN = ("digests", "sha256")
"""The metadata that are this module's."""


def write_tensors(path: Path | str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata with their digests, whole or not at all.

    Raises FileError where the file cannot be written.
    """
    from safetensors.torch import save

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    digests = {name: _digest(name, value) for name, value in plain.items()}
    metadata = {**metadata, "digests": json.dumps(digests, sort_keys=True)}
    metadata["sha256"] = _metadata_digest(metadata)
    # Not save_file: it writes a temporary file of its own, which a killed writer would leave behind.
    data = save(plain, metadata)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def read_tensors(
    path: Path | str, kind: str, remedy: str, wanted: Callable[[str], bool] = lambda name: True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors whose names are wanted, sorted by name, and the metadata that `write_tensors` was given.

    kind: what the file should be, as "data set"; remedy: what to do about a bad one, as "run its stage again".
    Raises RecordError, one sentence, where the file is missing, empty, truncated, damaged or not of `write_tensors`;
    FileError where it could not be read at the moment.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        # Python says why a file cannot be opened; safetensors calls it absent, whatever the reason.
        with path.open("rb"), safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("sha256") != _metadata_digest(metadata):
                raise RecordError(f"{path}: is no {kind}, or a damaged one; {remedy}")
            names = sorted(file.keys())
            # Copies: the tensors would be views of the file, whatever becomes of it.
            tensors = {name: file.get_tensor(name).clone() for name in names if wanted(name)}
    except FileNotFoundError as error:
        if error.errno is None:  # of safetensors
            raise FileError(f"{path}: could not be opened once more; mend that {AGAIN}") from error
        raise RecordError(f"{path}: no such file; run the stage that makes it") from None
    except (OSError, SafetensorError, MemoryError) as error:
        refuse_passing(path, error)
        reason = error.strerror if isinstance(error, IsADirectoryError) else " ".join(str(error).split())
        raise RecordError(f"{path}: not a whole {kind} ({reason}); {remedy}") from None
    except RuntimeError as error:  # of torch
        refuse_passing(path, error)
        raise
    try:
        digests = dict(json.loads(metadata["digests"]))
    except (KeyError, ValueError, TypeError, RecursionError):
        raise RecordError(f"{path}: is no {kind}, it has no digests of its tensors; {remedy}") from None
    damaged = sorted(set(names) ^ set(digests)) + [
        name for name, value in tensors.items() if digests.get(name) != _digest(name, value)
    ]
    if damaged:
        raise RecordError(f"{path}: is damaged, {damaged[0]} has a wrong checksum; {remedy}")
    return tensors, {name: value for name, value in metadata.items() if name not in OWN}


def _digest(name: str, tensor: Tensor) -> str:
    import torch

    digest = hashlib.sha256(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
    # As bytes: numpy has no bfloat16.
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _metadata_digest(metadata: dict[str, str]) -> str:
    rest = {name: value for name, value in metadata.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
