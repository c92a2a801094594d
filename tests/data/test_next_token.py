"""Next-token prediction: vocabularies, protocols and floors by hand, and who can see the answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nsbench.config.base import ConfigError
from nsbench.data.baselines import CONTEXT, lookup_rows, ngram_rows
from nsbench.data.datasets import Dataset
from nsbench.data.tasks import next_token
from nsbench.data.tasks.next_token import NextToken
from nsbench.data.text import PARTS, Text
from nsbench.data.vocabulary import build, whole_words
from nsbench.schemas.metrics import TARGETS
from tests.conftest import made_by

PROTOCOLS = {
    "windows_pooled": {},
    "windows_causal": {"targets": "every"},
    "random_split": {"split": "random"},
    "rows": {"examples": "rows", "targets": "every"},
}
APART = [name for name in PROTOCOLS if name != "random_split"]

# Words by count: the 5, cat 4, sat 3, on 2, dog 1, mat 1; ids with five symbols: 1, 2, 3, 4, 0, 0.
SMALL = Text(
    "small",
    train=("the cat sat", "", "the <unk> cat sat on the mat", "the dog", "on the cat cat sat"),
    val=("the cat cow sat on", "the", ""),
    test=("a cat sat on the cat", "the dog"),
)
TRAIN = [1, 2, 3, 1, 0, 2, 3, 4, 1, 0, 1, 0, 4, 1, 2, 2, 3]
VAL = [1, 2, 0, 3, 4, 1]
TEST = [0, 2, 3, 4, 1, 2, 1, 0]


def small(n_train: int, n_val: int, n_test: int, **protocol: Any) -> NextToken:
    return NextToken(n_symbols=5, length=2, n_train=n_train, n_val=n_val, n_test=n_test, **protocol)


def unique_text(n_lines: int = 120, words: int = 30) -> Text:
    """No word occurs twice; all words are in the first part's vocabulary only where they occur."""
    names = iter(f"w{number}" for number in range(3 * n_lines * words))
    lines = [tuple(" ".join(next(names) for _ in range(words)) for _ in range(n_lines)) for _ in PARTS]
    return Text("unique words", *lines)


def with_targets(made: dict[str, Tensor], part: str) -> Tensor:
    """Inputs and targets of a part's examples as one stretch each: (N, length + 1)."""
    labels = made[f"{part}_labels"]
    return torch.cat([made[f"{part}_tokens"], labels[:, None] if labels.ndim == 1 else labels[:, -1:]], dim=1)


def numpy_of(made: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in made.items()}


def rows_of(tensor: Tensor) -> list[tuple[int, ...]]:
    return sorted(tuple(row) for row in tensor.tolist())


# --- vocabularies --------------------------------------------------------------------------------------


def test_words_are_ranked_by_count_and_then_by_alphabet() -> None:
    vocabulary = build("words", 7, SMALL.train)
    ids, blank = vocabulary(["the cat sat on dog mat <unk> never", ""])
    assert len(blank) == 0
    assert ids.tolist() == [1, 2, 3, 4, 5, 6, 0, 0]
    assert ids.dtype == np.int64
    (ids,) = build("words", 6, SMALL.train)(["the cat sat on dog mat"])
    assert ids.tolist() == [1, 2, 3, 4, 5, 0]


def test_too_few_different_words_are_named() -> None:
    build("words", 7, SMALL.train)
    message = r"^data\.n_symbols = 8: the training text has 6 different words .*; at most 7 is allowed$"
    with pytest.raises(ConfigError, match=message):
        build("words", 8, SMALL.train)


def test_byte_pairs_merge_the_commonest_pair_first() -> None:
    """Of the letters of `ab ab ab cd`, each word after a space, (a, b) and ( , a) are commonest.

    257 symbols are bytes and the unknown word alone; each more is a merge.
    """
    (bytes_only,) = build("bpe", 257, ["ab ab ab cd"])(["ab cd"])
    assert len(bytes_only) == 6  # the line starts as if after a space
    assert len(set(bytes_only.tolist())) == 5
    (merged,) = build("bpe", 259, ["ab ab ab cd"])(["ab cd"])
    assert len(merged) == 4
    assert merged[0] == 258
    (same,) = build("bpe", 259, ["ab ab ab cd"])(["cd ab"])
    assert same[-1] == merged[0]


def test_the_texts_unknown_word_is_one_token_and_no_merge() -> None:
    lines = ["<unk> <unk> ab <unk>", "ab ab <unk>"] * 5
    vocabulary = build("bpe", 259, lines)
    (ids,) = vocabulary(["ab <unk> ab <unk> <unk>"])
    assert ids.tolist() == [258, 0, 258, 0, 0]
    with pytest.raises(
        ConfigError, match=r"^data\.n_symbols = 260: .* has 259 symbols .*; 257 \.\.\. 259 are allowed$"
    ):
        build("bpe", 260, lines)


def test_byte_pairs_know_every_byte() -> None:
    (ids,) = build("bpe", 257, ["only plain letters"])(["žluťoučký 猫 <unk"])
    assert 0 < ids.min() <= ids.max() < 257


def random_text(n_words: int = 4000, n_different: int = 40, seed: int = 0) -> Text:
    random = np.random.default_rng(seed)
    drawn = [random.integers(n_different, size=(n_words // 20, 20)) for _ in PARTS]
    return Text("random", *(tuple(" ".join(f"v{word}" for word in line) for line in part) for part in drawn))


# --- protocols by hand ---------------------------------------------------------------------------------


def test_windows_share_no_token_and_ask_for_the_next_one() -> None:
    """17, 6 and 8 tokens give 5, 2 and 2 windows of 3; all are drawn."""
    made, vocabulary, n_classes = made_by(small(5, 2, 2), 0, SMALL)
    assert (vocabulary, n_classes) == (5, 5)
    for part, stream in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        windows = [tuple(stream[start : start + 3]) for start in range(0, len(stream) - 2, 3)]
        assert rows_of(with_targets(made, part)) == sorted(windows)
        assert made[f"{part}_labels"].ndim == 1
    pairs = [tuple(TRAIN[place : place + 2]) for place in range(14) if place % 3 < 2]
    assert rows_of(made["transitions"]) == sorted(pairs)
    assert len(pairs) == 10


def test_targets_at_every_position_are_the_tokens_after_each() -> None:
    last, _, _ = made_by(small(5, 2, 2), 3, SMALL)
    every, _, _ = made_by(small(5, 2, 2, targets="every"), 3, SMALL)
    for part in PARTS:
        tokens, labels = every[f"{part}_tokens"], every[f"{part}_labels"]
        assert torch.equal(tokens, last[f"{part}_tokens"])
        assert torch.equal(labels[:, :-1], tokens[:, 1:])
        assert torch.equal(labels[:, -1], last[f"{part}_labels"])
    assert torch.equal(every["transitions"], last["transitions"])


def test_rows_are_lines_cut_and_padded() -> None:
    made, vocabulary, n_classes = made_by(small(5, 3, 2, examples="rows", targets="every"), 0, SMALL)
    assert (vocabulary, n_classes) == (6, 6)
    assert made["padding"].tolist() == [5]
    whole = {part: torch.cat([made[f"{part}_tokens"], made[f"{part}_labels"][:, -1:]], dim=1) for part in PARTS}
    assert rows_of(whole["train"]) == sorted([(1, 2, 3), (5, 5, 5), (1, 0, 2), (1, 0, 5), (4, 1, 2)])
    assert rows_of(whole["val"]) == sorted([(1, 2, 0), (1, 5, 5), (5, 5, 5)])
    assert rows_of(whole["test"]) == sorted([(0, 2, 3), (1, 0, 5)])
    for part in PARTS:
        assert torch.equal(made[f"{part}_labels"][:, 0], made[f"{part}_tokens"][:, 1])
    pairs = [(1, 2), (2, 3), (5, 5), (5, 5), (1, 0), (0, 2), (1, 0), (0, 5), (4, 1), (1, 2)]
    assert rows_of(made["transitions"]) == sorted(pairs)


def test_random_windows_are_one_stretch_of_the_training_part() -> None:
    """13 + 1 + 1 windows at stride 1 take all 17 tokens, whatever the seed."""
    made, _, _ = made_by(small(13, 1, 1, split="random"), 0, SMALL)
    dealt = torch.cat([with_targets(made, part) for part in PARTS])
    assert rows_of(dealt) == sorted(tuple(TRAIN[start : start + 3]) for start in range(15))
    starts = set()
    for seed in range(40):
        made, _, _ = made_by(small(2, 1, 1, split="random"), seed, SMALL)
        dealt = rows_of(torch.cat([with_targets(made, part) for part in PARTS]))
        starts |= {s for s in range(12) if dealt == sorted(tuple(TRAIN[s + k : s + k + 3]) for k in range(4))}
    assert starts == set(range(12))  # the stretch starts anywhere that 6 of 17 tokens fit


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("tokenizer", "n_symbols"), [("words", 40), ("bpe", 280)])
def test_what_every_protocol_makes(protocol: str, tokenizer: str, n_symbols: int) -> None:
    data = NextToken(
        tokenizer=tokenizer,
        n_symbols=n_symbols,
        length=6,
        n_train=50,
        n_val=20,
        n_test=10,
        **PROTOCOLS[protocol],
    )
    made, vocabulary, n_classes = made_by(data, 1, random_text())
    padded = data.examples == "rows"
    assert vocabulary == n_classes == n_symbols + padded
    assert made["symbols"].tolist() == list(range(n_symbols))
    assert made["unknown"].tolist() == [0]
    assert made["padding"].tolist() == [n_symbols] * padded
    assert made["transitions"].shape == (50 * 6, 2)
    for part, size in zip(PARTS, (50, 20, 10), strict=True):
        assert made[f"{part}_tokens"].shape == (size, 6)
        assert made[f"{part}_labels"].shape == ((size, 6) if data.targets == "every" else (size,))
        assert 0 <= made[f"{part}_tokens"].min() <= made[f"{part}_tokens"].max() < vocabulary
    for name, tensor in made.items():
        assert tensor.dtype == torch.int64, name
        assert tensor.is_contiguous(), name
    again, _, _ = made_by(data, 1, random_text())
    assert all(torch.equal(made[name], again[name]) for name in made)
    other, _, _ = made_by(data, 2, random_text())
    assert not torch.equal(made["train_tokens"], other["train_tokens"])
    assert math.isnan(data.target_value("noise_stability", "decision", 0.5))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (small(6, 1, 1), "data.n_train = 6: the training part of the text has only 5 windows of 3 tokens; at most 5"),
        (
            small(1, 4, 1, examples="rows", targets="every"),
            "data.n_val = 4: the validation part of the text has only 3 l",
        ),
        (
            small(14, 1, 1, split="random"),
            "data.n_train + data.n_val + data.n_test = 16: the training part of the text",
        ),
    ],
)
def test_too_few_examples_are_named(data: NextToken, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        made_by(data, 0, SMALL)
    assert str(raised.value).startswith(message)
    assert str(raised.value).endswith("is allowed")


# --- who can see the answers ---------------------------------------------------------------------------


@pytest.fixture
def _all_words_have_ids(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Build the vocabulary from all three parts, so that every word of a text is told apart."""
    text = unique_text()
    every = whole_words(3 * 120 * 30 + 1, [*text.train, *text.val, *text.test])
    monkeypatch.setattr(next_token, "build", lambda kind, n_symbols, lines: every)
    next_token._encoded.cache_clear()
    yield
    next_token._encoded.cache_clear()


def leak_data(protocol: str, n_train: int = 100, **others: Any) -> NextToken:
    return NextToken(
        n_symbols=3 * 120 * 30 + 1, length=20, n_train=n_train, n_val=100, n_test=100, **PROTOCOLS[protocol], **others
    )


@pytest.mark.usefixtures("_all_words_have_ids")
@pytest.mark.parametrize("protocol", APART)
def test_parts_cut_by_text_share_no_word_and_a_memory_knows_nothing(protocol: str) -> None:
    made, _, _ = made_by(leak_data(protocol), 0, unique_text())
    words = {part: with_targets(made, part).flatten().tolist() for part in PARTS}
    assert 0 not in words["train"]  # every word has an id of its own
    for part in PARTS:
        assert len(set(words[part])) == len(words[part]) == 100 * 21
    assert len(set().union(*words.values())) == 3 * 100 * 21
    assert [row["seen"] for row in lookup_rows(numpy_of(made), CONTEXT)] == [0.0] * 6


@pytest.mark.usefixtures("_all_words_have_ids")
def test_a_random_split_gives_the_answers_to_a_memory() -> None:
    """With 1,000 of 1,200 windows in training, nearly every target lies inside one of them."""
    made, _, _ = made_by(leak_data("random_split", n_train=1000, targets="every"), 0, unique_text())
    assert min(row["accuracy"] for row in lookup_rows(numpy_of(made), CONTEXT)) > 0.99


# --- n-grams ----------------------------------------------------------------------------------------


def floors(made: dict[str, Tensor], n_classes: int) -> dict[tuple[str, str, str], tuple[int, float, float]]:
    found = {
        (row["predictor"], row["split"], row["targets"]): (row["n_targets"], row["accuracy"], row["loss"])
        for row in ngram_rows(numpy_of(made), n_classes)
    }
    assert len(found) == 2 * 2 * 3
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_floors_agree_with_a_plain_count(protocol: str) -> None:
    """Against loops over dictionaries, on text where all kinds of targets occur."""
    text = random_text(n_different=30)
    data = NextToken(n_symbols=12, length=25, n_train=40, n_val=30, n_test=30, **PROTOCOLS[protocol])
    made, _, n = made_by(data, 0, text)
    found = floors(made, n)
    dataset = Dataset(made, n, n, "")
    counts = Counter(made["train_labels"].flatten().tolist())
    pairs = Counter(map(tuple, made["transitions"].tolist()))
    befores = Counter(before for before, _ in pairs.elements())
    p = [(counts[label] + 1) / (counts.total() + n) for label in range(n)]
    common = max(range(n), key=lambda label: (counts[label], -label))
    for split in ("val", "test"):
        labels, tokens = made[f"{split}_labels"], made[f"{split}_tokens"]
        last = tokens[:, -1] if labels.ndim == 1 else tokens
        for kind in TARGETS:
            counted = dataset.counted(kind, split)
            right, loss = Counter(), Counter()
            asked = list(zip(last[counted].tolist(), labels[counted].tolist(), strict=True))
            for a, b in asked:
                best = max(range(n), key=lambda label, a=a: (pairs[a, label], -label))
                right["bigram"] += b == (best if pairs[a, best] else common)
                right["commonest"] += b == common
                loss["bigram"] -= math.log((pairs[a, b] + p[b]) / (befores[a] + 1))
                loss["commonest"] -= math.log(p[b])
            for predictor in ("bigram", "commonest"):
                expected = (len(asked), right[predictor] / len(asked), loss[predictor] / len(asked))
                assert found[predictor, split, kind] == pytest.approx(expected)
