"""What a model is built for: the form of a data set's examples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """An example is a sequence of tokens: ids, or patches of an image, each a vector of numbers."""

    length: int = 0
    """T: tokens of an example."""
    vocabulary: int = 0
    """V: all ids are below it; 0 for patches."""
    n_classes: int = 0
    """C."""
    token_width: int = 0
    """P: numbers of a patch, row by row and its channels last; 0 for ids."""

    @property
    def image(self) -> tuple[int, int, int]:
        """Side of the image in patches, side of a patch in pixels, and channels (1 or 3); images are square.

        Raises ValueError for a shape that no square image of square patches has.
        """
        grid = round(self.length**0.5)
        for channels in (1, 3):
            side = round((self.token_width / channels) ** 0.5)
            if self.token_width and grid**2 == self.length and channels * side**2 == self.token_width:
                return grid, side, channels
        what = f"patches of {self.token_width} numbers" if self.token_width else "ids"
        raise ValueError(f"{self.length} tokens that are {what} make no square image of one or three channels")
