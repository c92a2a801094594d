"""The curves that the page holds: those of the figures, with their colours, few digits and no more than it can bear."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nsbench.arms.colours import ARM_COLOURS, FAMILY_COLOURS
from nsbench.figures import style
from nsbench.figures.curves import runs_of
from nsbench.report import curves
from nsbench.schemas.analysis import TABLES
from nsbench.schemas.training import HISTORY, TIME_TO_TARGET
from nsbench.storage.parquet import read_table
from tests.report.pages import CELLS, section

PLOTLY = curves.plotly
"""Before the other tests are given none."""


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


def data_of(html: str) -> dict[str, Any]:
    return json.loads(unpacked(re.search(r'id="curves-data">([^<]*)<', html).group(1)))


def test_the_page_has_every_run_s_curves_and_their_medians(plain: str, results: Path) -> None:
    data = data_of(plain)
    history = read_table(results / "collected" / "history.parquet", HISTORY)
    times = read_table(results / "tables" / "time_to_target.parquet", TIME_TO_TARGET)
    (variant,) = data["variants"]
    assert variant["leaks"] == []
    assert (variant["metric"], variant["threshold"], variant["budget"]) == ("val_accuracy", 0.95, 3000)
    assert [arm["name"] for arm in variant["arms"]] == [cell["arm"] for cell in CELLS]
    for arm, cell in zip(variant["arms"], CELLS, strict=True):
        assert arm["label"] == style.arm_text(cell)
        assert arm["colour"] == style.arm_colour(cell["arm_settings"])
        for metric in ("val_accuracy", "val_loss", "stability"):
            seeds, median = runs_of(history, times, cell, metric)
            assert arm["steps"] == seeds.index.tolist()
            shown = np.array(arm["curves"][metric], float).T
            np.testing.assert_allclose(shown, seeds.to_numpy(float), rtol=1e-3)
            np.testing.assert_allclose(np.array(arm["median"][metric], float), median.to_numpy(float), rtol=1e-3)
    reached = dict(zip(CELLS[1]["seeds"], variant["arms"][1]["times"], strict=True))
    rows = times[times["arm"] == CELLS[1]["arm"]].set_index("seed")["step"]
    assert reached == rows.to_dict()
    assert set(variant["arms"][2]["times"]) == {None}  # none of the reversed runs reached it
    assert 'value="modular_addition/calibrated"' in section(plain, "curves")


def test_of_many_evaluations_each_run_s_are_thinned_and_the_last_stays(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = read_table(results / "collected" / "history.parquet", HISTORY)
    times = read_table(results / "tables" / "time_to_target.parquet", TIME_TO_TARGET)
    selections = read_table(results / "tables" / "selection.parquet", TABLES["selection"])
    monkeypatch.setattr(curves, "MOST_EVALUATIONS", math.ceil(len(history) / 4))
    found = curves.section(CELLS, history, times, selections)
    arm = json.loads(unpacked(found["data"]))["variants"][0]["arms"][0]
    steps = sorted(history["step"].unique())
    assert found["thinned"] == 4
    assert arm["steps"] == sorted({*steps[::4], steps[-1]})
    assert {len(curve) for curve in arm["curves"]["val_loss"]} == {len(arm["steps"])}


def test_colours_stand_out_from_the_dark_page_and_stay_apart() -> None:
    page = curves._luminance(curves._rgb(curves.DARK_PAGE))
    colours = [*ARM_COLOURS.values(), *FAMILY_COLOURS.values()]
    on_dark = {colour: curves.on_dark(colour) for colour in colours}
    for colour in on_dark.values():
        assert (curves._luminance(curves._rgb(colour)) + 0.05) / (page + 0.05) >= curves.CONTRAST - 0.1
    assert len(set(on_dark.values())) == len(set(colours))
    css = (Path(curves.__file__).parent / "page.css.j2").read_text(encoding="utf-8")
    assert f"--page: {curves.DARK_PAGE.lower()};" in css


def test_the_library_is_the_package_s_own_and_takes_two_megabytes() -> None:
    source = unpacked(PLOTLY())
    assert b"plotly.js" in source[:200]
    assert b"MIT license" in source[:400]
    assert len(PLOTLY()) < 2.2e6
