"""Pairs of sentences that mean the same or not: two of GLUE's tasks, from the Hugging Face hub."""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np

from nsbench.config.base import ConfigError
from nsbench.data import hub
from nsbench.data.tasks.base import Examples
from nsbench.data.tasks.registry import task
from nsbench.data.tasks.sentence import Length, Sentences, SentenceTask

REPOSITORY = "nyu-mll/glue"
REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
PARTS = {"train": "train", "test": "validation"}
"""Our part -> the repository's: labels of its own test part are not all published."""
COLUMNS = {"mrpc": ("sentence1", "sentence2"), "qqp": ("question1", "question2")}


@task("glue")
class Glue(SentenceTask):
    """Is a pair a paraphrase? MRPC or QQP of GLUE (Wang et al., 2019, arXiv:1804.07461); label 1 where it is.

    Training and validation pairs are cut from the training part, test pairs from the validation part.
    """

    title = "GLUE"
    pairs = True

    subset: Literal["mrpc", "qqp"] = "mrpc"
    """MRPC: sentences of news, 3,668 + 408 pairs; QQP: questions of a forum, 363,846 + 40,430 pairs."""
    length: Length = 128
    n_train: Examples = 3_200
    n_val: Examples = 400
    n_test: Examples = 400

    def pool(self) -> dict[str, tuple[Sentences, np.ndarray]]:
        return {part: _pairs(self.subset, name) for part, name in PARTS.items()}

    def source(self) -> str:
        return f"GLUE, {self.subset.upper()}"

    def leaks(self, model: Any) -> list[str]:
        return ["validation pairs share sentences with training pairs"]


@functools.lru_cache(maxsize=4)
def _pairs(subset: str, part: str) -> tuple[Sentences, np.ndarray]:
    """Pairs and labels of a part. Raises ConfigError where the hub does not give them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = f"{subset}/{part}-00000-of-00001.parquet"
    try:
        path = hub.download(REPOSITORY, REVISION, name, "dataset")
    except ImportError:
        raise
    except Exception as error:  # The hub's library lets the errors of several layers through.
        raise ConfigError(
            f"GLUE's {subset.upper()} is not here: of {REPOSITORY} on the Hugging Face hub: {hub.why(error)}; give the "
            "same command again with the hub in reach"
        ) from error
    try:
        table = pq.read_table(path, columns=[*COLUMNS[subset], "label"])
        first, second, labels = (table[column].to_pylist() for column in (*COLUMNS[subset], "label"))
        if None in first or None in second or not set(labels) <= {0, 1}:
            raise ValueError("rows without a sentence or a label")
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{name} of {REPOSITORY} from the Hugging Face hub is no whole Parquet file of labelled pairs; remove it "
            "from the hub's cache"
        ) from error
    return list(zip(first, second, strict=True)), np.array(labels, dtype=np.int64)
