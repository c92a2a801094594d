"""Around a figure's panels: its title, and a key of what is drawn and no more."""

from __future__ import annotations

import textwrap

from nsbench.figures.annotations import Figure, Line2D

TITLE_SIZE = 10.5
LINE = 0.185
"""Height of a line of the title (inches)."""
CHARACTERS = 10.5
"""Of the title to an inch."""


def set_title(figure: Figure, text: str) -> None:
    """Write the figure's title above everything, on as many lines as it takes; the figure grows by them.

    What stands in figure coordinates would move: footers stand in inches from below (`style.footer`). A figure of one's
    own without a constrained layout gets matplotlib's title, and makes its room itself.
    """
    import matplotlib

    width, height = figure.get_size_inches()
    lines = _balanced(text, int(width * CHARACTERS))
    room, engine = LINE * len(lines) + 0.12, figure.get_layout_engine()
    if engine is None or "rect" not in engine.get():
        figure.suptitle("\n".join(lines), fontsize=TITLE_SIZE, weight="bold")
        return
    below = engine.get()["rect"][1] * height
    figure.set_figheight(height + room)
    engine.set(rect=(0, below / (height + room), 1, (height - below) / (height + room)))
    look = {"va": "top", "weight": "bold", "fontsize": TITLE_SIZE, "color": matplotlib.rcParams["axes.labelcolor"]}
    at = {"transform": figure.dpi_scale_trans, "gid": "title"}
    figure.text(0.08, height + room - 0.07, "\n".join(lines), **look, **at)


def _balanced(text: str, width: int) -> list[str]:
    """The lines of a text, as few as `width` characters allow and about as long as each other."""
    lines = textwrap.wrap(text, width)
    for narrower in range(width - 1, 10, -1):
        if len(found := textwrap.wrap(text, narrower)) > len(lines):
            break
        lines = found
    return lines


def drawn_only(figure: Figure, key: list[Line2D]) -> list[Line2D]:
    """The entries of a key whose gid something in the panels has, alone or before further words, and those without."""
    found = {artist.get_gid() for axes in figure.axes for artist in axes.get_children()}
    found |= {gid.rsplit(" ", words)[0] for gid in found if gid for words in range(1, gid.count(" ") + 1)}
    return [entry for entry in key if entry.get_gid() is None or entry.get_gid() in found]
