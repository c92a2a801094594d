"""Reading a figure back from the artists that it has."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.figure import Figure


def with_gid(place: Any, gid: str) -> list[Any]:
    """The artists of a figure or panel that carry this mark."""
    return place.findobj(lambda artist: artist.get_gid() == gid)


def texts(place: Any) -> str:
    """All text of a figure or panel."""
    return "\n".join(text.get_text() for text in place.findobj(matplotlib.text.Text))


def shown(figure: Figure) -> list[Any]:
    """The panels that are drawn."""
    return [axes for axes in figure.axes if axes.axison]


def overlaps(first: Artist, second: Artist) -> bool:
    return first.get_window_extent().overlaps(second.get_window_extent())


def check_layout(figure: Figure, panels: list[Any]) -> None:
    """No panel, legend, title, label or footer lies over another or outside the figure."""
    figure.draw_without_rendering()
    blocks = [*figure.texts, *figure.legends, *panels, *(axes.xaxis.label for axes in panels)]
    blocks += [axes.get_legend() for axes in panels if axes.get_legend()]
    for place, block in enumerate(blocks):
        assert not any(overlaps(block, other) for other in blocks[place + 1 :]), block
        extent = block.get_window_extent()
        assert extent.y0 >= 0
        assert extent.x1 <= figure.bbox.x1 + 1
        assert extent.y1 <= figure.bbox.y1 + 1
