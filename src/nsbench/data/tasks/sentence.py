"""What tasks on labelled sentences share: settings, seeded splits, a vocabulary, and sequences of one length."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from nsbench.config.base import ConfigError
from nsbench.data.tasks.base import Arrays, Examples, Task
from nsbench.data.tasks.pool import drawn, shortage
from nsbench.data.vocabulary import build

Sentences = list[tuple[str, ...]]
"""The sentences of each example: one, or two that belong together."""

Length = Annotated[int, Field(ge=4, le=4096)]


class SentenceTask(Task):
    """Classify sentences, or pairs of them.

    Words are in lower case, with punctuation marks apart. Ids below `n_symbols` are the vocabulary's, 0 its unknown
    word; `n_symbols` is padding and, where examples are pairs, `n_symbols` + 1 stands between the two. Sequences that
    are longer than `length` lose their last tokens, of a pair the longer sentence first; shorter ones have padding in
    front, so that a model that reads its last state reads a word there.
    """

    pairs: ClassVar[bool] = False
    """Whether an example is two sentences."""
    n_classes: ClassVar[int] = 2

    tokenizer: Literal["words", "bpe"] = "words"
    """Whole words, the commonest of the training sentences and one unknown; or byte-pair encoding."""
    n_symbols: Annotated[int, Field(ge=2, le=65536)] = 4000
    """Vocabulary size, the unknown word included; padding and the mark between sentences are more."""
    length: Length = 40
    """Tokens of an example."""
    labels: Literal["given", "permuted"] = "given"
    """`permuted`: the labels of the training examples are shuffled among them, a control; others stay as they are."""
    n_train: Examples = 8_000
    n_val: Examples = 1_000
    n_test: Examples = 1_000

    @model_validator(mode="after")
    def _fits(self) -> SentenceTask:
        if self.tokenizer == "bpe" and self.n_symbols < 257:
            raise ValueError(
                f"n_symbols = {self.n_symbols} is too small for tokenizer = 'bpe', which starts from 256 bytes and "
                "one unknown; at least 257 is allowed"
            )
        return self

    def pool(self) -> dict[str, tuple[Sentences, np.ndarray]]:
        """Sentences and labels of `train` and, where the authors made such a part, of `test`."""
        raise NotImplementedError

    def make(self, seed: int) -> tuple[Arrays, int, int]:
        """Examples that the seed draws without replacement, as ids; the vocabulary is that of its training examples.

        Raises ConfigError where the sentences cannot be had, are too few, or give too small a vocabulary.
        """
        from nsbench.storage.seeding import stream

        random, pool = stream(seed, "data"), self.pool()
        sizes = {part: len(labels) for part, (_, labels) in pool.items()}
        if told := shortage(self, sizes, f"examples of {self.source()}", "data."):
            raise ConfigError(told)
        chosen: dict[str, Sentences] = {}
        made: Arrays = {}
        for name, (part, rows) in drawn(self, sizes, random).items():
            sentences, labels = pool[part]
            chosen[name] = [sentences[row] for row in rows.tolist()]
            made[f"{name}_labels"] = labels[rows]
        plain = {name: [tuple(map(_plain, example)) for example in examples] for name, examples in chosen.items()}
        encode = build(self.tokenizer, self.n_symbols, [line for example in plain["train"] for line in example])
        for name, examples in plain.items():
            columns = [encode([example[place] for example in examples]) for place in range(1 + self.pairs)]
            made[f"{name}_tokens"] = np.array([self._joined(each) for each in zip(*columns, strict=True)])
        if self.labels == "permuted":
            made["train_labels"] = random.permutation(made["train_labels"])
        made |= {"symbols": np.arange(self.n_symbols), "padding": np.array([self.n_symbols])}
        return made, self.n_symbols + 1 + self.pairs, self.n_classes

    def _joined(self, sentences: tuple[np.ndarray, ...]) -> list[int]:
        """The ids of an example's sentences as a sequence of `length`."""
        kept = [len(sentence) for sentence in sentences]
        while sum(kept) > self.length - self.pairs:
            kept[int(np.argmax(kept))] -= 1
        joined: list[int] = []
        for place, (sentence, size) in enumerate(zip(sentences, kept, strict=True)):
            joined += [self.n_symbols + 1] * (place > 0)
            joined += sentence[:size].tolist()
        return [self.n_symbols] * (self.length - len(joined)) + joined

    def sequence_length(self) -> int:
        return self.length

    def symbol_count(self) -> int:
        return self.n_symbols

    def class_count(self) -> int:
        return self.n_classes


def _plain(sentence: str) -> str:
    """In lower case, words and single punctuation marks apart by spaces."""
    return " ".join(re.findall(r"\w+|[^\w\s]", sentence.lower()))
