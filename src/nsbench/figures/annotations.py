"""Types for annotations, without the libraries that they are from: planning imports all figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

CHANGES_NO_RESULT = True

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from pandas import DataFrame as Table
    from pandas import Series
else:
    Axes = Axis = Figure = Line2D = Normalize = Series = Table = Any

Cell = dict[str, Any]
"""A cell of the grid as plain values (`workflow.plan.plain`)."""
Cells = list[Cell]
