"""Reading a figure back from the artists that it has."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from nsbench.figures import style
from nsbench.figures.frame import set_title


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


TITLE = "A title that takes two lines on all but the widest figures, since it tells what is drawn without the page"


def drawn_texts(figure: Figure) -> list[Text]:
    """The texts that are drawn; not, say, the labels of ticks outside of an axis."""
    seen: list[Text] = []
    draw = Text.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", lambda self, *given, **how: (seen.append(self), draw(self, *given, **how)))
        figure.draw_without_rendering()
    # One that begins with an empty line keeps room for another.
    found = [text for text in dict.fromkeys(seen) if text.get_visible() and text.get_text().strip()]
    return [text for text in found if text.get_text()[0] != "\n"]


def check_texts(figure: Figure) -> None:
    """No text touches another."""
    found = drawn_texts(figure)
    for text, other in touching(found, [text.get_window_extent().padded(-1) for text in found]):
        pytest.fail(f"{text.get_text()!r} touches {other.get_text()!r}")


def touching(artists: list[Artist], boxes: list[Bbox]) -> list[tuple[Artist, Artist]]:
    """The pairs whose boxes overlap, as `Bbox.overlaps` has it; all at once, since a figure may have 1,000 texts."""
    corners = np.array([box.extents for box in boxes]).reshape(-1, 2, 2)
    low, high = corners.min(axis=1), corners.max(axis=1)
    both = (low[:, None] <= high[None]).all(axis=2)
    return [(artists[one], artists[other]) for one, other in np.argwhere(np.triu(both & both.T, 1))]


def check_layout(figure: Figure, panels: list[Any]) -> None:
    """No panel, legend, title, label or footer lies over another or outside the figure, and no text touches another."""
    with style.applied():
        set_title(figure, TITLE)
        check_texts(figure)
    blocks = [*figure.texts, *figure.legends, *panels, *(axes.xaxis.label for axes in panels)]
    blocks += [axes.get_legend() for axes in panels if axes.get_legend()]
    extents = [block.get_window_extent() for block in blocks]
    assert not touching(blocks, extents)
    for extent in extents:
        assert extent.y0 >= 0
        assert extent.x1 <= figure.bbox.x1 + 1
        assert extent.y1 <= figure.bbox.y1 + 1
