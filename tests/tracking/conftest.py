"""A results folder with a store that has MLflow's tables: making these takes a second, so it is done once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tracked_results import Results, cells, lend_tables, make_tables


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture
def results(tmp_path: Path, tables: Path) -> Results:
    made = Results(tmp_path / "results", cells())
    lend_tables(tables, made.folder / "mlflow.db")
    return made
