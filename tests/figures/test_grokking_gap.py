"""What the figure of grokking gaps shows, read back from the artists that it draws."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from nsbench.analysis import statistics
from nsbench.config.sections import Analysis
from nsbench.figures import grokking_gap, style
from nsbench.schemas.analysis import SELECTION
from tests.figures.artists import check_layout, shown, texts, with_gid
from tests.synthetic_records import ARMS, make_cells, make_records


def test_each_run_goes_from_fitting_to_generalising() -> None:
    cells = make_cells(variants=("a", "b"), seeds=(0, 1, 2))
    records = make_records(cells, rises={("gentle", 1): 1e9})
    times = statistics.time_to_target(records["history"], records["runs"], cells)
    times.loc[(times["variant"] == "b") & (times["arm"] == "baseline"), "train_step"] = math.nan
    effects = statistics.paired_effects(times, records["runs"], Analysis(), cells)
    none = pd.DataFrame(columns=SELECTION.names)
    figure = grokking_gap.draw(times, effects, none, cells, "demo")
    first, second = shown(figure)
    for axes, variant in ((first, "a"), (second, "b")):
        runs = times[times["variant"] == variant]
        fitting = runs[runs["train_step"].notna()]
        gaps = with_gid(axes, "gap")
        expected = fitting.assign(step=fitting["step"].fillna(3000))[["train_step", "step"]].to_numpy()
        np.testing.assert_array_equal([line.get_xdata() for line in gaps], expected)
        colours = [style.arm_colour(ARMS[arm]) for arm in fitting["arm"]]
        assert [line.get_color() for line in gaps] == colours
        assert len(with_gid(axes, "generalises")) == runs["step"].notna().sum() == 5
        (censored,) = with_gid(axes, "censored")
        assert (list(censored.get_xdata()), censored.get_marker()) == ([3000], ">")
    assert len(with_gid(second, "fits")) == 2  # one of the arm's runs fits nothing
    assert "threshold reached on training data" in texts(figure)
    check_layout(figure, shown(figure))
