"""A results folder on a file system that is too small, and grows a little each time until all fits.

At each size the same command is given. Where it ends for want of room, the user must be told so in a sentence, nothing
under results may be half-written or left behind, and no traceback may be all that is said. Once all fits the tables
must equal an undisturbed workflow's to the bit.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from nsbench.storage.parquet import read_stamp
from nsbench.storage.tensors import read_tensors
from tests.faults import Outcome
from tests.faults.kill import OVERLAY, differences, tables
from tests.small_disk import SmallDisk
from tests.warm import STAGES, Warm
from tests.workflow_clone import Clone

AMPLE = 2**29
LEAST = 2**16
SENTENCE = re.compile(r"(could not be written \(No space left on device\)|its file system is full).*; free some space")


def run(trials: int, seed: int, folder: Path) -> Outcome:
    """Fill up `trials` disks, each of them at several sizes."""
    results = folder / "clone" / "results"
    try:
        disk = SmallDisk(results, AMPLE)
    except OSError as error:
        return Outcome(0, 0, {}, skipped=str(error))
    with disk, contextlib.closing(Warm((*STAGES, "mlflow", "alembic.command", "sqlalchemy.orm"), disk.within)) as warm:
        clone = Clone(folder / "clone", warm)
        commands = clone.write_command()
        status, said = clone.snakemake(path=commands, overlay=OVERLAY)
        assert status == 0, errors(said)
        needed, calm = disk.used(), tables(disk.path)
        totals: Counter[str] = Counter()
        for trial in range(trials):
            dice = random.Random(f"{seed} {trial}")
            # Each trial begins in a part of its own, so that few trials too meet all stages.
            size = max(LEAST, int(needed * (trial + dice.random()) / trials))
            disk.renew(size)
            shutil.rmtree(clone.root / ".snakemake", ignore_errors=True)
            try:
                totals += _trial(clone, commands, disk, dice, size, needed)
                assert differences(calm, tables(disk.path)) == [], "the tables are not those of an ample disk"
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, trial {trial}: {error}") from error
            print(f"full_disk {trial + 1} of {trials}: {dict(totals)}", file=sys.stderr, flush=True)
    return Outcome(trials, totals.pop("full"), {"bytes needed": needed, **totals})


def _trial(clone: Clone, commands: Path, disk: SmallDisk, dice: random.Random, size: int, needed: int) -> Counter[str]:
    """Give the command again and again, with a little more room each time, until all is done."""
    totals: Counter[str] = Counter()
    while True:
        status, said = clone.snakemake(path=commands, overlay=OVERLAY)
        check_whole(disk.path)
        if status == 0:
            return totals
        totals["full"] += 1
        assert SENTENCE.search(said), f"at {size} bytes nobody tells that the disk is full:\n{errors(said)}"
        stages = set(re.findall(r"^nsbench ([\w-]+): .*No space left on device", said, re.MULTILINE))
        totals.update(f"in {stage}" for stage in stages or {"Snakemake alone"})
        totals["with a traceback too"] += "Traceback" in said
        assert size < 4 * needed, f"four times the room is not enough:\n{errors(said)}"
        size = int(size * dice.uniform(1.1, 1.6))
        disk.resize(size)


def errors(said: str) -> str:
    """Of all that Snakemake says, what is about jobs that failed, and the end."""
    found = re.findall(r"^Error in rule.*?(?=^\[|\Z)", said, re.MULTILINE | re.DOTALL)
    return "\n".join([*found, said[-1000:]])


def check_whole(results: Path) -> None:
    """Open every file that a stage made; AssertionError names one that is not whole or was left behind."""
    for path in sorted(path for path in results.rglob("*") if path.is_file()):
        if {"logs", "benchmarks", ".locks"} & {*path.parts} or path.suffix == ".lock" or path.name == ".lock":
            continue
        try:
            _open(path)
        except Exception as error:
            raise AssertionError(f"{path.relative_to(results)} is not whole: {error}") from error
        # A hidden file is a temporary one, but for what is written once and kept.
        assert not path.name.startswith(".") or path.suffix == ".json", f"{path.relative_to(results)} was left behind"


def _open(path: Path) -> None:
    if path.suffix == ".parquet":
        pq.read_table(path, page_checksum_verification=True)
        read_stamp(path)
    elif path.suffix == ".safetensors":
        read_tensors(path, "file", "")
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".png":
        with Image.open(path) as image:
            image.verify()
    elif path.suffix in (".pdf", ".html"):
        assert path.read_bytes().rstrip().endswith((b"%%EOF", b"</html>"))
    elif path.suffix in (".csv", ".md", ".txt"):
        assert path.read_bytes().endswith(b"\n")
    elif path.suffix == ".db":
        # A copy, with its journals: SQLite takes no path through another process's root.
        with tempfile.TemporaryDirectory() as folder:
            for part in path.parent.glob(f"{path.name}*"):
                shutil.copy(part, folder)
            with contextlib.closing(sqlite3.connect(Path(folder) / path.name)) as database:
                assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
