"""Film reviews: is a snippet rated above or below zero?"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from nsbench.config.base import Real
from nsbench.data.snippets import REQUIREMENT, load_snippets
from nsbench.data.tasks.registry import task
from nsbench.data.tasks.sentence import Sentences, SentenceTask


@task("movie_snippets")
class MovieSnippets(SentenceTask):
    """10,566 rated snippets of film reviews; label 1 where the mean rating is above zero.

    Validation accuracy of a bag of words (logistic regression, 4,000 words): 0.757 +- 0.014, and 0.813 +- 0.012 where
    `least_rating` is 1; of a transformer with two layers of width 64 after two epochs: 0.75 and 0.78 (two seeds).
    """

    title = "film snippets"

    least_rating: Annotated[Real, Field(ge=0.0, le=4.0)] = 0.0
    """Snippets whose mean rating, from -4 to 4, is no farther from zero than this are left out."""

    def pool(self) -> dict[str, tuple[Sentences, np.ndarray]]:
        kept = [(text, rating) for text, rating in load_snippets() if abs(rating) > self.least_rating]
        return {"train": ([(text,) for text, _ in kept], np.array([int(rating > 0) for _, rating in kept]))}

    def source(self) -> str:
        return f"film snippets of {REQUIREMENT.replace('==', ' ')}"
