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

    A bag of words (logistic regression, 4,000 words) reaches a validation accuracy of 0.757, and 0.813 with
    `least_rating` 1; a transformer of two layers and width 64 the same within its error.
    """

    title = "film snippets"

    least_rating: Annotated[Real, Field(ge=0.0, le=4.0)] = 0.0
    """Snippets whose mean rating, from -4 to 4, is no farther from zero than this are left out."""

    def pool(self) -> dict[str, tuple[Sentences, np.ndarray]]:
        kept = [(text, rating) for text, rating in load_snippets() if abs(rating) > self.least_rating]
        return {"train": ([(text,) for text, _ in kept], np.array([int(rating > 0) for _, rating in kept]))}

    def source(self) -> str:
        return f"film snippets of {REQUIREMENT.replace('==', ' ')}"
