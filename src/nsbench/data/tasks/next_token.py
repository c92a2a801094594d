"""Next-token prediction (sections 6.1 and J.3): stretches of a text and the token after each.

Ids below `n_symbols` are the vocabulary's, 0 its unknown word; where examples are lines, the id
`n_symbols` is padding. The vocabulary comes from the whole training part, whatever the seed; the
seed draws which examples of each part are used.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from nsbench.config.base import ConfigError
from nsbench.config.variant import NextTokenData
from nsbench.data import baselines as floors
from nsbench.data.text import PARTS, Text, read_text_file
from nsbench.data.vocabulary import UNKNOWN, build
from nsbench.storage.seeding import stream

__all__ = ["floor_rows", "make", "read_text_file", "target_value"]

PART_NAMES = {"train": "training", "val": "validation", "test": "test"}


def make(data: NextTokenData, seed: int, text: Text) -> tuple[dict[str, Tensor], int, int]:
    """Examples of the text by the protocol that `data` names, with vocabulary size and classes.

    Tensors, all int64: `train_tokens`, ... (N, T); `train_labels`, ... (N), the token after the
    example, or (N, T), the token after each position; `symbols` (n_symbols); `unknown` (1);
    `padding` (1), or (0) where there is none; `transitions` (M, 2), the pairs of neighbours in the
    training examples, targets included, once for each time they occur.

    Raises ConfigError where the text has too few examples or too small a vocabulary.
    """
    random = stream(seed, "data")
    parts = _encoded(text, data.tokenizer, data.n_symbols)
    if data.split == "random":
        examples = _dealt(data, parts["train"], random)
    else:
        pool = _rows if data.examples == "rows" else _windows
        examples = {name: _drawn(data, name, pool(data, parts[name]), random) for name in PARTS}
    made = {}
    for name in PARTS:
        tokens_NS = torch.from_numpy(examples[name])
        made[f"{name}_tokens"] = tokens_NS[:, :-1].contiguous()
        made[f"{name}_labels"] = tokens_NS[:, -1 if data.targets == "last" else slice(1, None)].contiguous()
    train_NS = torch.from_numpy(examples["train"])
    padding = [data.n_symbols] if data.examples == "rows" else []
    made["symbols"] = torch.arange(data.n_symbols)
    made["unknown"] = torch.tensor([UNKNOWN])
    made["padding"] = torch.tensor(padding, dtype=torch.int64)
    made["transitions"] = torch.stack([train_NS[:, :-1], train_NS[:, 1:]], dim=-1).reshape(-1, 2)
    vocabulary = data.n_symbols + len(padding)
    return made, vocabulary, vocabulary


def floor_rows(tensors: dict[str, Tensor], n_classes: int) -> list[dict[str, Any]]:
    """What the commonest token, a bigram table and a table of contexts of `data.baselines.CONTEXT` tokens score."""
    return floors.floor_rows(tensors, n_classes) + floors.lookup_rows(tensors, floors.CONTEXT)


def target_value(data: NextTokenData, measure: str, reduction: str, correlation: float) -> float:
    """NaN: no closed form is known for a text."""
    return math.nan


@functools.lru_cache(maxsize=4)
def _encoded(text: Text, tokenizer: str, n_symbols: int) -> dict[str, list[np.ndarray]]:
    """The ids of each line of each part; remembered, since the seeds of a pack share them."""
    vocabulary = build(tokenizer, n_symbols, text.train)
    return {name: vocabulary.encode(getattr(text, name)) for name in PARTS}


def _stream(lines: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=np.int64), *lines])


def _windows(data: NextTokenData, lines: list[np.ndarray]) -> np.ndarray:
    """The part's tokens, line ends ignored, cut into windows that share none: (windows, length + 1)."""
    tokens, width = _stream(lines), data.length + 1
    n_windows = len(tokens) // width
    return tokens[: n_windows * width].reshape(n_windows, width)


def _rows(data: NextTokenData, lines: list[np.ndarray]) -> np.ndarray:
    """The part's lines, cut or padded: (lines, length + 1)."""
    rows = np.full((len(lines), data.length + 1), data.n_symbols, dtype=np.int64)
    for row, line in zip(rows, lines, strict=True):
        cut = line[: len(row)]
        row[: len(cut)] = cut
    return rows


def _drawn(data: NextTokenData, name: str, pool: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The examples of a part that the seed draws, without replacement."""
    wanted = getattr(data, f"n_{name}")
    if wanted > len(pool):
        kind = "lines" if data.examples == "rows" else f"windows of {data.length + 1} tokens"
        raise ConfigError(
            f"data.n_{name} = {wanted}: the {PART_NAMES[name]} part of the text has only {len(pool)} {kind}; "
            f"at most {len(pool)} is allowed"
        )
    return pool[random.permutation(len(pool))[:wanted]]


def _dealt(data: NextTokenData, lines: list[np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
    """Windows at stride 1 of one stretch of the training part, shuffled and dealt to the three parts.

    A leak on purpose: nearly every validation window lies within tokens that training windows
    show, its target included, so that what is memorised scores as if it were learned.
    """
    tokens, sizes = _stream(lines), [data.n_train, data.n_val, data.n_test]
    n_windows, have = sum(sizes), max(len(tokens) - data.length, 0)
    if n_windows > have:
        raise ConfigError(
            f"data.n_train + data.n_val + data.n_test = {n_windows}: the training part of the text has only {have} "
            f"windows of {data.length + 1} tokens at stride 1; at most {have} is allowed"
        )
    start = random.integers(have - n_windows + 1)
    stretch = tokens[start : start + n_windows + data.length]
    shuffled = sliding_window_view(stretch, data.length + 1)[random.permutation(n_windows)]
    return dict(zip(PARTS, np.split(shuffled, np.cumsum(sizes)[:-1]), strict=True))
