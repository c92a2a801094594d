"""The one module that talks to the Hugging Face hub: files of a repository at a pinned revision, cached ones first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

HUB_SECONDS = 5.0
WANTED = ["*.safetensors", "*.json", "*.txt", "*.model"]
"""Of a model: weights, configuration, tokenizer. Never a pickle, never code."""
SUBFOLDERS = ["*/*"]


def download(repository: str, revision: str, name: str, kind: Literal["model", "dataset"]) -> Path:
    """A file of a repository, from the hub's cache on this machine or from the hub. Lets the hub's errors through."""
    from huggingface_hub import hf_hub_download

    wanted = {"repo_id": repository, "filename": name, "repo_type": kind, "revision": revision}
    return _cached_or_fetched(hf_hub_download, wanted, lambda path: True)


def download_model(repository: str, revision: str | None = None) -> Path:
    """The folder with a model's safetensors, configuration and tokenizer, from the cache or from the hub.

    It has the name of its revision; without one, the newest is meant. The token of a gated model is $HF_TOKEN's, or
    that of `hf auth login`. Lets the hub's errors through.
    """
    from huggingface_hub import snapshot_download

    wanted = {
        "repo_id": repository,
        "revision": revision,
        "allow_patterns": WANTED,
        "ignore_patterns": SUBFOLDERS,
    }
    # A download that was cut off leaves its folder with some of the files.
    return _cached_or_fetched(snapshot_download, wanted, is_whole)


def _cached_or_fetched(get: Callable[..., str], wanted: dict[str, Any], is_there: Callable[[Path], bool]) -> Path:
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        path = Path(get(**wanted, local_files_only=True))
        if is_there(path):
            return path
    except LocalEntryNotFoundError:
        pass
    _reach()
    return Path(get(**wanted, etag_timeout=HUB_SECONDS))


def _reach() -> None:
    """One short request first: an unreachable hub would be retried for half a minute."""
    from huggingface_hub import constants, get_session

    get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)


def is_whole(folder: Path) -> bool:
    """Whether a folder has a configuration and, beside it, all the safetensors that it names."""
    if not (folder / "config.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any(folder.glob("*.safetensors"))
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return bool(names) and all(
            name.endswith(".safetensors") and "/" not in name and (folder / name).is_file() for name in names
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def why(error: Exception) -> str:
    """In a few words why the hub gave nothing."""
    from huggingface_hub import errors

    reasons = {
        errors.HFValidationError: "that is no name of a repository",
        errors.LocalEntryNotFoundError: "the hub cannot be reached, and its cache has not all of it",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, and its cache has not all of it",
        errors.GatedRepoError: "it is gated: accept its terms on the hub, and set HF_TOKEN to a token of that account",
        errors.RepositoryNotFoundError: "the hub has no such repository, or it needs HF_TOKEN",
        errors.RevisionNotFoundError: "the hub has no such revision of it",
        errors.EntryNotFoundError: "a file of it is not on the hub",
    }
    found = (reason for kind, reason in reasons.items() if isinstance(error, kind))
    return next(found, f"the hub cannot be reached ({type(error).__name__})")
