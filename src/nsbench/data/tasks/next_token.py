"""Next-token prediction (sections 6.1 and J.3): stretches of a text and the token after each.

Ids below `n_symbols` are the vocabulary's, 0 its unknown word; where examples are lines, the id
`n_symbols` is padding. The vocabulary comes from the whole training part, whatever the seed; the
seed draws which examples of each part are used.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field, model_validator

from nsbench.config.base import ConfigError
from nsbench.data.tasks.base import SPLITS, Arrays, Examples, Task
from nsbench.data.tasks.registry import task
from nsbench.data.vocabulary import UNKNOWN, build

if TYPE_CHECKING:
    from nsbench.data.text import Text

PART_NAMES = {"train": "training", "val": "validation", "test": "test"}


@task("next_token")
class NextToken(Task):
    """Stretches of a text whose next token is asked for (sections 6.1 and J.3).

    A protocol is a choice of `examples`, `split` and `targets`; config.yaml names five of them.
    """

    title = "next-token prediction"
    from_text = True

    tokenizer: Literal["words", "bpe"] = "words"
    """Whole words, the commonest of the training text and one unknown; or byte-pair encoding."""
    n_symbols: Annotated[int, Field(ge=2, le=65536)] = 500
    """Vocabulary size, the unknown word included; padding, where there is any, is one more."""
    length: Annotated[int, Field(ge=2, le=4096)] = 20
    """N: tokens per example."""
    examples: Literal["windows", "rows"] = "windows"
    """`windows`: cut from the token stream, line ends ignored; `rows`: the lines of the text, blank
    ones included, each cut or padded to the length."""
    split: Literal["by_text", "random"] = "by_text"
    """`by_text`: training, validation and test examples come from different parts of the text and
    windows share no token; `random`: windows at stride 1 are dealt to the three at random, so that
    they share text, which is a leak."""
    targets: Literal["last", "every"] = "last"
    """`last`: one target, the token after the example; `every`: at each position the token after it."""
    n_train: Examples = 1000
    n_val: Examples = 1000
    n_test: Examples = 1000

    @model_validator(mode="after")
    def _fits(self) -> NextToken:
        if self.examples == "rows" and self.split == "random":
            raise ValueError(
                "split = 'random' deals windows at stride 1; with examples = 'rows' only 'by_text' is allowed"
            )
        if self.examples == "rows" and self.targets == "last":
            raise ValueError("examples = 'rows' has targets at every position; targets = 'every' is allowed with it")
        if self.tokenizer == "bpe" and self.n_symbols < 257:
            raise ValueError(
                f"n_symbols = {self.n_symbols} is too small for tokenizer = 'bpe', which starts from 256 bytes and "
                "one unknown; at least 257 is allowed"
            )
        return self

    def make(self, seed: int, text: Text) -> tuple[Arrays, int, int]:
        """Examples of the text by the protocol of these settings.

        `transitions` (M, 2) has the pairs of neighbours in the training examples, targets included, once for each time
        they occur. Raises ConfigError where the text has too few examples or too small a vocabulary.
        """
        from nsbench.storage.seeding import stream

        random = stream(seed, "data")
        parts = _encoded(text, self.tokenizer, self.n_symbols)
        if self.split == "random":
            examples = self._dealt(parts["train"], random)
        else:
            pool = self._rows if self.examples == "rows" else self._windows
            examples = {name: self._drawn(name, pool(parts[name]), random) for name in SPLITS}
        made = {}
        for name in SPLITS:
            tokens_NS = examples[name]
            made[f"{name}_tokens"] = tokens_NS[:, :-1]
            made[f"{name}_labels"] = tokens_NS[:, -1 if self.targets == "last" else slice(1, None)]
        train_NS = examples["train"]
        padding = [self.n_symbols] if self.examples == "rows" else []
        made["symbols"] = np.arange(self.n_symbols)
        made["unknown"] = np.array([UNKNOWN])
        made["padding"] = np.array(padding, dtype=np.int64)
        made["transitions"] = np.stack([train_NS[:, :-1], train_NS[:, 1:]], axis=-1).reshape(-1, 2)
        vocabulary = self.n_symbols + len(padding)
        return made, vocabulary, vocabulary

    def sequence_length(self) -> int:
        return self.length

    def symbol_count(self) -> int:
        return self.n_symbols

    @property
    def every_position(self) -> bool:
        return self.targets == "every"

    def floor_rows(self, arrays: Arrays, n_classes: int) -> list[dict[str, Any]]:
        """What the commonest token, a bigram table and a table of contexts of CONTEXT tokens score."""
        from nsbench.data.baselines import CONTEXT, lookup_rows, ngram_rows

        return ngram_rows(arrays, n_classes) + lookup_rows(arrays, CONTEXT)

    def leaks(self, model: Any) -> list[str]:
        found = ["training and validation windows overlap"] if self.split == "random" else []
        if self.targets == "every" and not model.causal:
            found.append("every position sees its own target")
        return found

    def _windows(self, lines: list[np.ndarray]) -> np.ndarray:
        """The part's tokens, line ends ignored, cut into windows that share none: (windows, length + 1)."""
        tokens, width = _stream(lines), self.length + 1
        n_windows = len(tokens) // width
        return tokens[: n_windows * width].reshape(n_windows, width)

    def _rows(self, lines: list[np.ndarray]) -> np.ndarray:
        """The part's lines, cut or padded: (lines, length + 1)."""
        rows = np.full((len(lines), self.length + 1), self.n_symbols, dtype=np.int64)
        for row, line in zip(rows, lines, strict=True):
            cut = line[: len(row)]
            row[: len(cut)] = cut
        return rows

    def _drawn(self, name: str, pool: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The examples of a part that the seed draws, without replacement."""
        wanted = getattr(self, f"n_{name}")
        if wanted > len(pool):
            kind = "lines" if self.examples == "rows" else f"windows of {self.length + 1} tokens"
            raise ConfigError(
                f"data.n_{name} = {wanted}: the {PART_NAMES[name]} part of the text has only {len(pool)} {kind}; "
                f"at most {len(pool)} is allowed"
            )
        return pool[random.permutation(len(pool))[:wanted]]

    def _dealt(self, lines: list[np.ndarray], random: np.random.Generator) -> Arrays:
        """Windows at stride 1 of one stretch of the training part, shuffled and dealt to the three parts.

        A leak on purpose: nearly every validation window lies within tokens that training windows
        show, its target included, so that what is memorised scores as if it were learned.
        """
        tokens, sizes = _stream(lines), [self.n_train, self.n_val, self.n_test]
        n_windows, have = sum(sizes), max(len(tokens) - self.length, 0)
        if n_windows > have:
            raise ConfigError(
                f"data.n_train + data.n_val + data.n_test = {n_windows}: the training part of the text has only {have} "
                f"windows of {self.length + 1} tokens at stride 1; at most {have} is allowed"
            )
        start = random.integers(have - n_windows + 1)
        stretch = tokens[start : start + n_windows + self.length]
        shuffled = sliding_window_view(stretch, self.length + 1)[random.permutation(n_windows)]
        return dict(zip(SPLITS, np.split(shuffled, np.cumsum(sizes)[:-1]), strict=True))


@functools.lru_cache(maxsize=4)
def _encoded(text: Text, tokenizer: str, n_symbols: int) -> dict[str, list[np.ndarray]]:
    """The ids of each line of each part; remembered, since the seeds of a pack share them."""
    encode = build(tokenizer, n_symbols, text.train)
    return {name: encode(getattr(text, name)) for name in SPLITS}


def _stream(lines: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=np.int64), *lines])
