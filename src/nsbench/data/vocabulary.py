"""From lines of text to token ids: whole words, or byte-pair encoding. The one module with `tokenizers`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from nsbench.config.base import ConfigError

UNKNOWN_WORD = "<unk>"
UNKNOWN = 0
"""The id of a word that has none of its own."""
Encoder = Callable[[Sequence[str]], list[np.ndarray]]
"""The ids 0 ... n_symbols - 1 of each line, int64; a blank line has none."""


def build(kind: Literal["words", "bpe"], n_symbols: int, lines: Sequence[str]) -> Encoder:
    """The vocabulary of `n_symbols` ids, the unknown word included, that `lines` give.

    Raises ConfigError where the lines have too few different words, or pairs to merge.
    """
    return whole_words(n_symbols, lines) if kind == "words" else byte_pairs(n_symbols, lines)


def whole_words(n_symbols: int, lines: Sequence[str]) -> Encoder:
    """The commonest words as ids 1, 2, ... by falling count, ties in alphabetical order.

    Every other word, and the text's own `<unk>`, is id 0.
    """
    counts = Counter(word for line in lines for word in line.split())
    del counts[UNKNOWN_WORD]
    if n_symbols > len(counts) + 1:
        raise ConfigError(
            f"data.n_symbols = {n_symbols}: the training text has {len(counts)} different words besides the "
            f"unknown one; at most {len(counts) + 1} is allowed"
        )
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    ids = {word: number for number, word in enumerate(ranked[: n_symbols - 1], start=1)}
    return lambda lines: [np.array([ids.get(word, UNKNOWN) for word in line.split()], dtype=np.int64) for line in lines]


def byte_pairs(n_symbols: int, lines: Sequence[str]) -> Encoder:
    """Byte-level byte-pair encoding: 256 bytes and the commonest merges as ids 1, 2, ...

    Every line starts as if a space stood before it, so that a word is the same there as elsewhere.
    The text's own `<unk>`, the space before it included, is one token, id 0; nothing else is.
    """
    # Here, because data sets of whole words do without this package.
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=n_symbols,
        special_tokens=[AddedToken(UNKNOWN_WORD, lstrip=True, special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # The trainer would learn merges for the letters of `<unk>`, which encoding never uses.
    pieces = (piece.rstrip() for line in lines for piece in line.split(UNKNOWN_WORD) if piece.strip())
    tokenizer.train_from_iterator(pieces, trainer)
    found = tokenizer.get_vocab_size()
    if found != n_symbols:
        allowed = f"{found} is" if found <= 257 else f"257 ... {found} are"
        raise ConfigError(
            f"data.n_symbols = {n_symbols}: byte-pair encoding of the training text has {found} symbols "
            f"once all is merged; {allowed} allowed"
        )
    return lambda lines: [np.array(line.ids, dtype=np.int64) for line in tokenizer.encode_batch(list(lines))]
