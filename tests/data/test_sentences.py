"""Labelled sentences: where they come from, splits, vocabulary and sequences, and what is refused."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nsbench.config.base import ConfigError, parse
from nsbench.data import snippets
from nsbench.data.datasets import read_dataset
from nsbench.data.tasks import glue
from nsbench.data.tasks.glue import Glue
from nsbench.data.tasks.movie_snippets import MovieSnippets
from nsbench.schemas.training import FLOORS
from nsbench.storage.parquet import read_table
from nsbench.storage.seeding import stream
from tests.conftest import write_datasets

SPLITS = ("train", "val", "test")
WORDS = ["a", "bad", "film,", "it's", "good!", "the", "Plot", "so", "dull", "fun", "no", "joy"]


def sentences(n: int) -> list[str]:
    random = np.random.default_rng(0)
    return [f"{' '.join(random.choice(WORDS, random.integers(1, 9)))} S{k}." for k in range(n)]


# --- snippets of films ---------------------------------------------------------------------------------


def archive(rows: list[str]) -> bytes:
    """A source archive with a table of these lines in an archive of its own."""

    def packed(name: str, content: bytes) -> bytes:
        file, about = io.BytesIO(), tarfile.TarInfo(name)
        about.size = len(content)
        with tarfile.open(fileobj=file, mode="w:gz") as tar:
            tar.addfile(about, io.BytesIO(content))
        return file.getvalue()

    return packed(snippets.INNER, packed(snippets.TABLE, "".join(f"{row}\r\n" for row in rows).encode()))


RATED = [f"{k}\t{(k - 30) / 10}\t{text}" for k, text in enumerate(sentences(60))] + ["60\t-4\ta  bad café S61 .", ""]
"""One is rated zero, 30 below it, 30 above."""


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive in the place of the true one, in the cache."""
    snippets.load_snippets.cache_clear()
    content = archive(RATED)
    monkeypatch.setattr(snippets, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.delenv(snippets.VARIABLE, raising=False)
    monkeypatch.setenv("NSBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / snippets.ARCHIVE
    path.write_bytes(content)
    return path


def test_snippets_are_the_lines_of_the_table_and_a_repeated_one_counts_once(
    films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = snippets.load_snippets()
    assert (len(found), found[0], found[60]) == (61, (sentences(1)[0], -3.0), ("a bad café S61 .", -4.0))
    content = archive([*RATED, "61\t4\ta bad café S61 ."])
    monkeypatch.setattr(snippets, "SHA256", hashlib.sha256(content).hexdigest())
    films.write_bytes(content)
    snippets.load_snippets.cache_clear()
    assert snippets.load_snippets() == found


@pytest.mark.parametrize("in_folder", [True, False])
def test_the_archive_may_lie_where_its_variable_says(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_folder: bool
) -> None:
    moved = films.rename(tmp_path / snippets.ARCHIVE)
    monkeypatch.setenv(snippets.VARIABLE, str(moved.parent if in_folder else moved))
    assert len(snippets.load_snippets()) == 61


def test_a_missing_or_other_archive_is_told(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films.write_bytes(archive(RATED[1:]))
    with pytest.raises(ConfigError, match=r"vaderSentiment-3\.3\.2\.tar\.gz: has a wrong checksum and is not vader"):
        MovieSnippets().make(0)
    monkeypatch.setenv(snippets.VARIABLE, "gone")
    with pytest.raises(
        ConfigError, match=r"^\$NSBENCH_MOVIE_SNIPPETS = 'gone': no such file; vaderSentiment-3\.3\.2\."
    ):
        MovieSnippets().make(0)


def test_pip_fetches_the_archive_once_or_a_sentence_says_how_to(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, calls = films.read_bytes(), []
    films.unlink()

    def run(command: list[Any], **how: Any) -> Any:
        calls.append(command)
        folder = Path(command[command.index("-d") + 1])
        assert (folder / "requirements.txt").read_text() == f"vaderSentiment==3.3.2 --hash=sha256:{snippets.SHA256}\n"
        if len(calls) > 2:
            (folder / snippets.ARCHIVE).write_bytes(content)
        elif len(calls) == 2:
            raise subprocess.TimeoutExpired(command, 1)
        return SimpleNamespace(stderr="WARNING: slow\nERROR: no matching distribution\n", returncode=1)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ConfigError) as caught:
        MovieSnippets().make(0)
    assert str(caught.value) == (
        "the film snippets are not here: $NSBENCH_MOVIE_SNIPPETS is not set, and pip could not fetch "
        "vaderSentiment==3.3.2 (no matching distribution); give pip download --no-deps --no-binary :all: "
        "vaderSentiment==3.3.2 where its index is in reach, and set $NSBENCH_MOVIE_SNIPPETS to the folder"
    )
    with pytest.raises(ConfigError, match=r"\(TimeoutExpired\)"):
        MovieSnippets().make(0)
    assert len(snippets.load_snippets()) == 61
    assert films.read_bytes() == content
    snippets.load_snippets.cache_clear()
    assert len(snippets.load_snippets()) == 61
    assert len(calls) == 3


# --- examples ------------------------------------------------------------------------------------------


def small(**changed: Any) -> dict[str, Any]:
    return {"n_symbols": 12, "length": 6, "n_train": 40, "n_val": 12, "n_test": 8, **changed}


def pieces(text: str) -> list[str]:
    """Words in lower case and marks, character by character."""
    found = [""]
    for character in text.lower():
        if character.isalnum():
            found[-1] += character
        else:
            found += [character.strip(), ""]
    return [piece for piece in found if piece]


@pytest.mark.parametrize("length", [4, 30])
def test_the_seed_draws_the_snippets_and_training_makes_the_vocabulary(films: Path, length: int) -> None:
    """The draw is spelled out: it is what makes a seed's data."""
    task = MovieSnippets(**small(n_symbols=20, length=length))
    made, vocabulary, n_classes = task.make(5)
    assert (vocabulary, n_classes) == (21, 2) == (task.symbol_count() + 1, task.class_count())
    assert (made["symbols"].tolist(), made["padding"].tolist()) == (list(range(20)), [20])
    rated = [(text, rating) for text, rating in snippets.load_snippets() if rating]
    order = stream(5, "data").permutation(60).tolist()
    rows = {"train": order[:40], "val": order[40:52], "test": order[52:]}
    counts = Counter(piece for row in rows["train"] for piece in pieces(rated[row][0]))
    ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))[:19]
    ids = {piece: number for number, piece in enumerate(ranked, start=1)}
    for split in SPLITS:
        expected = [[ids.get(piece, 0) for piece in pieces(rated[row][0])][:length] for row in rows[split]]
        padded = [[20] * (length - len(row)) + row for row in expected]
        assert made[f"{split}_tokens"].tolist() == padded
        assert made[f"{split}_labels"].tolist() == [int(rated[row][1] > 0) for row in rows[split]]


def test_permuted_labels_are_those_of_training_in_another_order(films: Path) -> None:
    given, again, permuted = (MovieSnippets(**small(labels=kind)).make(1)[0] for kind in ("given", "given", "permuted"))
    assert all(np.array_equal(given[name], again[name]) for name in given)
    assert {name for name in given if not np.array_equal(given[name], permuted[name])} == {"train_labels"}
    assert sorted(given["train_labels"]) == sorted(permuted["train_labels"])


def test_snippets_near_zero_are_left_out(films: Path) -> None:
    assert len(MovieSnippets().pool()["train"][1]) == 60
    (texts, labels) = MovieSnippets(least_rating=2.0).pool()["train"]
    ratings = dict(snippets.load_snippets())
    assert [ratings[text] > 0 for (text,) in texts] == labels.astype(bool).tolist()
    assert min(abs(ratings[text]) for (text,) in texts) == pytest.approx(2.1)
    assert len(texts) == 20


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"n_train": 41}, "data.n_train + data.n_val + data.n_test = 61 is more than the 60 examples of film snippets"),
        ({"n_symbols": 100}, "data.n_symbols = 100: the training text has "),
        ({"tokenizer": "bpe"}, "n_symbols = 12 is too small for tokenizer = 'bpe', which starts from 256 bytes"),
        ({"least_rating": 5.0}, "least_rating: 5.0 is not allowed; allowed: less than or equal to 4"),
    ],
)
def test_settings_that_the_snippets_do_not_fit_are_told(films: Path, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(MovieSnippets, small(**changed)).make(0)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_stage_writes_snippets_with_their_source(films: Path, tmp_path: Path) -> None:
    write_datasets("movie_snippets", small(), [0], tmp_path / "d")
    data = read_dataset(tmp_path / "d", 0, "movie_snippets")
    assert (data.vocabulary, data.n_classes, data.text) == (13, 2, "film snippets of vaderSentiment 3.3.2")
    assert set(read_table(tmp_path / "d.floors.parquet", FLOORS)["predictor"]) == {"lookup"}
    # No label is left out as one of an unknown word would be.
    assert data.counted("known", "val").all()


# --- pairs ---------------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[str, str, int]]]:
    """What the hub has of both subsets, by the repository's part."""
    glue._pairs.cache_clear()
    made = {
        part: [(f"first{k} one.", f"second{k} and two", k % 2) for k in range(start, start + n)]
        for part, start, n in (("train", 0, 20), ("validation", 100, 6))
    }
    for subset, columns in glue.COLUMNS.items():
        for part, rows in made.items():
            path = tmp_path / subset / f"{part}-00000-of-00001.parquet"
            path.parent.mkdir(exist_ok=True)
            columns_of = dict(zip((*columns, "label"), map(list, zip(*rows, strict=True)), strict=True))
            pq.write_table(pa.table({**columns_of, "idx": list(range(len(rows)))}), path)

    def download(repository: str, revision: str, name: str, kind: str) -> Path:
        assert (repository, len(revision), kind) == ("nyu-mll/glue", 40, "dataset")
        return tmp_path / name

    monkeypatch.setattr(glue.hub, "download", download)
    return made


@pytest.mark.parametrize("subset", ["mrpc", "qqp"])
def test_pairs_have_a_mark_between_their_sentences(pairs: dict[str, Any], subset: str) -> None:
    task = Glue(subset=subset, n_symbols=33, length=9, n_train=14, n_val=6, n_test=6)
    made, vocabulary, n_classes = task.make(0)
    assert (vocabulary, n_classes, task.source()) == (35, 2, f"GLUE, {subset.upper()}")
    # Ids by count: "." "and" "one" "two" stand in each pair, then first0, first1 ...
    dot, both, one, two = range(1, 5)
    for split in SPLITS:
        for row, label in zip(made[f"{split}_tokens"].tolist(), made[f"{split}_labels"].tolist(), strict=True):
            first, second = row[2], row[6]
            assert row == [33, 33, first, one, dot, 34, second, both, two]
            assert (first > 4) == (second > 4) == (split == "train")
            assert label in (0, 1)
    assert len({row[2] for row in made["train_tokens"].tolist()}) == 14
    assert made["test_labels"].sum() == 3  # all of the repository's validation part


def test_the_longer_sentence_of_a_pair_is_cut_first() -> None:
    task = Glue(n_symbols=50, length=6)
    for sizes, cut in [((2, 9), (2, 3)), ((9, 9), (2, 3)), ((5, 0), (5, 0)), ((1, 1), (1, 1)), ((4, 2), (3, 2))]:
        row = task._joined(tuple(np.arange(size) + 10 * k for k, size in enumerate(sizes)))
        kept = [list(range(cut[0])), list(range(10, 10 + cut[1]))]
        assert row == [50] * (5 - sum(cut)) + kept[0] + [51] + kept[1]


def test_what_the_hub_does_not_give_is_told(
    pairs: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"n_test = 7 is more than the 6 test examples of GLUE, MRPC; at most 6"):
        Glue(n_symbols=20, n_train=14, n_val=6, n_test=7).make(0)
    path = tmp_path / "qqp" / "validation-00000-of-00001.parquet"
    table = {"question1": ["a", "b"], "question2": ["a", None], "label": [1, 0]}
    for content in (table, table | {"question2": ["a", "b"], "label": [0, -1]}, {"question1": ["a"]}):
        pq.write_table(pa.table(content), path)
        with pytest.raises(
            ConfigError, match=r"^qqp/validation-.*of nyu-mll/glue .* no whole Parquet file of labelled"
        ):
            Glue(subset="qqp", n_train=14, n_val=6, n_test=1).make(0)

    def fail(*wanted: str) -> Path:
        raise ConnectionError("no route to hidden.example.org")

    monkeypatch.setattr(glue.hub, "download", fail)
    with pytest.raises(
        ConfigError, match=r"^GLUE's QQP is not here: .*\(ConnectionError\); give the same command again"
    ):
        Glue(subset="qqp").make(0)
