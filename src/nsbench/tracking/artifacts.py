"""The files of a run in MLflow: written into the results folder beside a SQLite store, else sent to the server.

Stores that would put them anywhere else, a folder of this machine or a bucket, get none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nsbench.storage.atomic import write_text

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

TAG = "nsbench.files"
FOLDER = "artifacts"
"""Beside a SQLite store; `ui` serves it as the place of `mlflow-artifacts:/`."""
SERVED = "mlflow-artifacts:/"


def digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True).encode()).hexdigest()


def place(run: Run, store: Path | None) -> Path | None:
    """The folder of a run's files beside the SQLite store; None for other stores."""
    uri = run.info.artifact_uri or ""
    return store.parent / FOLDER / uri.removeprefix(SERVED) if store is not None and uri.startswith(SERVED) else None


class Artifacts:
    """The files that runs of a store are to have.

    store: the file of a SQLite store; None: another store. address: its URI.
    """

    def __init__(self, store: Path | None, address: str) -> None:
        self.store, self.address = store, address
        self.refused = False
        """Whether the server takes none."""

    def missing(self, run: Run, files: Mapping[str, str]) -> bool:
        """Whether a run lacks them, or has older ones."""
        folder = place(run, self.store)
        if folder is not None and not all((folder / name).exists() for name in files):
            return True
        return (folder is not None or self._is_sent(run)) and run.data.tags.get(TAG) != digest(files)

    def write(self, client: MlflowClient, run: Run, files: Mapping[str, str]) -> dict[str, str]:
        """Put them there; the tags that say so. A server that takes none is told of, and left alone."""
        folder = place(run, self.store)
        if folder is None and not self._is_sent(run):
            return {}
        try:
            for name, text in files.items():
                if folder is not None:
                    write_text(folder / name, text, durable=False)
                else:
                    client.log_text(run.info.run_id, text, name)
        except Exception as error:
            if folder is not None:
                raise
            self.refused = True
            logger.warning("MLflow's server takes no artifacts (%s); runs are imported without", type(error).__name__)
            return {}
        return {TAG: digest(files)}

    def remove(self, run: Run) -> None:
        """Remove the files of a run that is to be deleted."""
        if (folder := place(run, self.store)) is not None:
            shutil.rmtree(folder.parent, ignore_errors=True)

    def _is_sent(self, run: Run) -> bool:
        return self.address.startswith("http") and not self.refused and (run.info.artifact_uri or "").startswith(SERVED)
