"""Results of a small grid, made once for all tests of the page, and the page made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nsbench.report import curves
from tests.report.pages import CELLS, IMAGE, LOOK, RISES, report
from tests.synthetic_records import make_records, write_results


@pytest.fixture(scope="session", autouse=True)
def _no_plotly() -> Iterator[None]:
    """Pages without the library: 2 MB that a test of texts need not read. `test_browser` looks at a whole page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "plotly", lambda: "")
        yield


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    write_results(folder, CELLS, make_records(CELLS, RISES, diverged=(("reversed", 5),)), looks=LOOK)
    for name in ("figure_05_modular_addition", "figure_99"):
        (folder / f"{name}.png").write_bytes(IMAGE)
    return folder


@pytest.fixture(scope="session")
def plain(results: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Their page, at demo scale."""
    return report(results, tmp_path_factory.mktemp("page") / "report.html")
