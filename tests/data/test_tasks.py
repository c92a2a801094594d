"""The tasks: labels that are right, splits that do not meet, targets that enumeration confirms."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from nsbench.config.variant import Noise
from nsbench.data.datasets import batch_indices, read_dataset
from nsbench.data.tasks.modular_addition import ModularAddition
from nsbench.data.tasks.sparse_parity import SparseParity
from nsbench.storage.parquet import RecordError
from nsbench.storage.seeding import stream
from nsbench.theory import resampling_correlation
from tests.conftest import made_by, write_datasets
from tests.data.enumeration import agreement_by_enumeration, sensitivity_by_enumeration

SPLITS = ("train", "val", "test")
MODULAR = [
    ModularAddition(),
    ModularAddition(layout="a_b"),
    ModularAddition(modulus=7, layout="a_b", n_train=20, n_val=10, n_test=19),  # all 49 pairs
    ModularAddition(modulus=2, n_train=2, n_val=1, n_test=1),
]
PARITY = [
    SparseParity(),
    SparseParity(n=10, k=3, layout="bits_cls"),
    SparseParity(n=5, k=5, n_train=400, n_val=100, n_test=100),
    SparseParity(n=100, k=1, label_noise=0.0),
]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- modular addition ----------------------------------------------------------------------------------


def summands(data: ModularAddition, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return tokens[:, 0], tokens[:, 2 if data.layout == "a_plus_b_eq" else 1]


@pytest.mark.parametrize("data", MODULAR, ids=repr)
@pytest.mark.parametrize("seed", [0, 5])
def test_sums_are_right_and_splits_have_their_sizes_and_share_no_pair(data: ModularAddition, seed: int) -> None:
    made, vocabulary, n_classes = made_by(data, seed)
    assert (vocabulary, n_classes) == (data.modulus + 5, data.modulus)
    pairs: list[tuple[int, int]] = []
    for split, size in zip(SPLITS, (data.n_train, data.n_val, data.n_test), strict=True):
        tokens, labels = made[f"{split}_tokens"], made[f"{split}_labels"]
        a, b = summands(data, tokens)
        assert len(tokens) == len(labels) == size
        assert torch.equal(labels, (a + b) % data.modulus)
        assert 0 <= tokens.min() <= tokens.max() < vocabulary
        assert max(a.max(), b.max()) < data.modulus
        assert tokens.dtype == labels.dtype == torch.int64
        pairs += zip(a.tolist(), b.tolist(), strict=True)
    assert len(set(pairs)) == len(pairs) == data.n_train + data.n_val + data.n_test
    assert made["symbols"].tolist() == list(range(data.modulus))


def test_the_layout_of_an_example_is_a_plus_b_equals() -> None:
    made, vocabulary, _ = made_by(ModularAddition(), 0)
    assert made["train_tokens"].shape == (2000, 4)
    assert made["train_tokens"][:, 1].unique().tolist() == [113 + 3]
    assert made["train_tokens"][:, 3].unique().tolist() == [113 + 4] == [vocabulary - 1]


def test_both_layouts_hold_the_same_pairs() -> None:
    long, _, _ = made_by(ModularAddition(), 3)
    short, _, _ = made_by(ModularAddition(layout="a_b"), 3)
    for split in SPLITS:
        assert torch.equal(long[f"{split}_tokens"][:, [0, 2]], short[f"{split}_tokens"])
        assert torch.equal(long[f"{split}_labels"], short[f"{split}_labels"])


def test_pairs_are_ordered_and_uniform() -> None:
    """(a, b) and (b, a) are two pairs, and the first summand does not favour small residues."""
    made, _, _ = made_by(ModularAddition(modulus=5, n_train=23, n_val=1, n_test=1), 0)
    pairs = {tuple(row) for split in SPLITS for row in made[f"{split}_tokens"][:, [0, 2]].tolist()}
    assert pairs == set(itertools.product(range(5), repeat=2))
    made, _, _ = made_by(ModularAddition(), 1)
    for column in (0, 2):
        mean = made["train_tokens"][:, column].double().mean().item()
        assert abs(mean - 56) < 4 * math.sqrt((113**2 - 1) / 12 / 2000)


# --- sparse parity -------------------------------------------------------------------------------------


def parity(made: dict[str, torch.Tensor], split: str) -> torch.Tensor:
    return torch.stack([made[f"{split}_tokens"][:, place] for place in made["secret"].tolist()]).sum(0) % 2


@pytest.mark.parametrize("data", PARITY, ids=repr)
@pytest.mark.parametrize("seed", [0, 5])
def test_clean_labels_are_the_parity_of_the_secret(data: SparseParity, seed: int) -> None:
    made, vocabulary, n_classes = made_by(data, seed)
    secret = made["secret"].tolist()
    assert len(secret) == len(set(secret)) == data.k
    assert secret == sorted(secret)
    assert 0 <= secret[0] <= secret[-1] < data.n
    assert (vocabulary, n_classes) == (3 if data.layout == "bits_cls" else 2, 2)
    for split, size in zip(SPLITS, (data.n_train, data.n_val, data.n_test), strict=True):
        tokens = made[f"{split}_tokens"]
        assert tokens.shape == (size, data.n + (data.layout == "bits_cls"))
        assert set(tokens[:, : data.n].unique().tolist()) <= {0, 1}
        if split != "train":
            assert torch.equal(made[f"{split}_labels"], parity(made, split))
    if data.layout == "bits_cls":
        assert made["train_tokens"][:, -1].unique().tolist() == [2]
    assert made["symbols"].tolist() == [0, 1]


@pytest.mark.parametrize("eta", [0.0, 0.1, 0.3, 0.49])
def test_the_share_of_flipped_training_labels_is_eta(eta: float) -> None:
    n = 50_000
    made, _, _ = made_by(SparseParity(label_noise=eta, n_train=n), 2)
    flipped = (made["train_labels"] != parity(made, "train")).double()
    assert abs(flipped.mean().item() - eta) <= 4 * math.sqrt(eta * (1 - eta) / n)
    # Flips are as frequent for odd as for even strings.
    for label in (0, 1):
        share = flipped[parity(made, "train") == label].mean().item()
        assert abs(share - eta) <= 4 * math.sqrt(eta * (1 - eta) / (0.49 * n))


def test_bits_are_fair_coins() -> None:
    n = 50_000
    made, _, _ = made_by(SparseParity(n_train=n), 2)
    means = made["train_tokens"].double().mean(0)
    assert (means - 0.5).abs().max().item() < 4.5 * 0.5 / math.sqrt(n)


def test_label_noise_leaves_strings_and_secret_alone() -> None:
    clean, _, _ = made_by(SparseParity(label_noise=0.0), 4)
    noisy, _, _ = made_by(SparseParity(label_noise=0.4), 4)
    assert same({**clean, "train_labels": noisy["train_labels"]}, noisy)
    assert not torch.equal(clean["train_labels"], noisy["train_labels"])


def test_the_secret_depends_on_the_seed_and_every_position_can_be_secret() -> None:
    secrets = [tuple(made_by(SparseParity(n=6, k=2, n_train=1), s)[0]["secret"].tolist()) for s in range(120)]
    counts = Counter(secrets)
    assert set(counts) == set(itertools.combinations(range(6), 2))
    assert max(counts.values()) < 120 / 15 + 5 * math.sqrt(120 / 15)


# --- both ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [MODULAR[0], PARITY[0]], ids=["modular", "parity"])
def test_data_are_a_function_of_the_seed(data: Any) -> None:
    first, _, _ = made_by(data, 0)
    other, _, _ = made_by(data, 1)
    torch.manual_seed(77)
    again, _, _ = made_by(data, 0)
    assert same(first, again)
    assert not torch.equal(first["train_tokens"], other["train_tokens"])


# --- the file ------------------------------------------------------------------------------------------

TINY = {"n": 5, "k": 2, "n_train": 30, "n_val": 10, "n_test": 10}


def test_the_file_gives_back_what_was_made_for_each_seed(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    write_datasets("sparse_parity", TINY, [3, 13, 1], path, {"spec": "{}"})
    digests = set()
    for seed in (1, 3, 13):
        made, vocabulary, n_classes = made_by(SparseParity(**TINY), seed)
        data = read_dataset(path, seed)
        assert same(data.tensors, made)
        assert (data.vocabulary, data.n_classes, data.secret) == (vocabulary, n_classes, made["secret"].tolist())
        digests.add(data.sha256)
    assert len(digests) == 3


def test_the_digest_of_a_run_s_data_does_not_depend_on_the_pack(tmp_path: Path) -> None:
    write_datasets("modular_addition", {"modulus": 7, "n_train": 9, "n_val": 9, "n_test": 9}, [3, 4], tmp_path / "a")
    write_datasets("modular_addition", {"modulus": 7, "n_train": 9, "n_val": 9, "n_test": 9}, [4], tmp_path / "b")
    assert read_dataset(tmp_path / "a", 4).sha256 == read_dataset(tmp_path / "b", 4).sha256
    assert read_dataset(tmp_path / "a", 4).secret is None


def test_bad_data_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    with pytest.raises(RecordError, match=r"d\.safetensors: no such file; run the stage that makes it$"):
        read_dataset(path, 0)
    write_datasets("sparse_parity", TINY, [3], path)
    with pytest.raises(RecordError, match=r"d\.safetensors: has no data for seed 0; delete it and"):
        read_dataset(path, 0)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RecordError, match=r"d\.safetensors: not a whole data set"):
        read_dataset(path, 3)


@pytest.mark.parametrize(
    ("noise", "layout", "symbols", "fixed"),
    [
        (Noise(), "bits_cls", [0, 1], None),
        (Noise(symbols="vocabulary"), "bits_cls", [0, 1, 2], None),
        (Noise(positions="task"), "bits_cls", [0, 1], [2]),
        (Noise(positions="task"), "bits", [0, 1], []),
    ],
)
def test_noise_reads_its_symbols_and_fixed_ids_from_the_data(
    tmp_path: Path, noise: Noise, layout: str, symbols: list[int], fixed: list[int] | None
) -> None:
    write_datasets("sparse_parity", {**TINY, "layout": layout}, [0], tmp_path / "d")
    data = read_dataset(tmp_path / "d", 0)
    assert data.noise_symbols(noise).tolist() == symbols
    found = data.fixed_ids(noise)
    assert found is None if fixed is None else found.tolist() == fixed


# --- batches -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_examples", "batch_size"), [(10, 3), (10, 10), (7, 20), (1, 5), (12, 4), (5, 13), (9, 1)])
def test_every_batch_is_full_and_every_epoch_sees_each_example_once(n_examples: int, batch_size: int) -> None:
    def order(epoch: int) -> torch.Tensor:
        return torch.from_numpy(stream(0, "batches", epoch).permutation(n_examples))

    n_steps = 4 * math.ceil(n_examples / batch_size) + 3
    batches = [batch_indices(n_examples, batch_size, step, order) for step in range(n_steps)]
    assert all(len(batch) == batch_size for batch in batches)
    row = torch.cat(batches)
    for epoch in range(len(row) // n_examples):
        seen = row[epoch * n_examples : (epoch + 1) * n_examples]
        assert torch.equal(seen, order(epoch))
    # A batch depends on its step alone.
    assert torch.equal(batch_indices(n_examples, batch_size, 2, order), batches[2])


def test_a_batch_asks_only_for_the_epochs_that_it_spans() -> None:
    asked = []

    def order(epoch: int) -> torch.Tensor:
        asked.append(epoch)
        return torch.arange(10)

    batch_indices(10, 4, 0, order)
    batch_indices(10, 4, 2, order)
    batch_indices(10, 25, 1, order)
    assert asked == [0, 0, 1, 2, 3, 4]


# --- what the target function itself measures ----------------------------------------------------------


RHOS = [-1.0, -0.4, 0.0, 0.5, 1.0]


@pytest.mark.parametrize("same_symbol", [True, False])
@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize("modulus", [2, 3, 5])
def test_the_target_of_modular_addition(modulus: int, rho: float, same_symbol: bool) -> None:
    data = ModularAddition(modulus=modulus, n_train=1, n_val=1, n_test=1)
    kappa = resampling_correlation(rho, modulus, same_symbol)
    exact = agreement_by_enumeration(lambda x: sum(x) % modulus, 2, modulus, rho, same_symbol)
    for reduction in ("probability_dot", "probability_cosine"):
        value = data.target_value("noise_stability", reduction, kappa)
        assert value == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("same_symbol", [True, False])
@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize(("n", "secret"), [(1, (0,)), (3, (0, 2)), (3, (0, 1, 2)), (4, (1,))])
def test_the_target_of_sparse_parity(n: int, secret: tuple[int, ...], rho: float, same_symbol: bool) -> None:
    data = SparseParity(n=n, k=len(secret))
    kappa = resampling_correlation(rho, 2, same_symbol)
    exact = agreement_by_enumeration(lambda x: sum(x[place] for place in secret) % 2, n, 2, rho, same_symbol)
    for reduction in ("probability_dot", "probability_cosine"):
        value = data.target_value("noise_stability", reduction, kappa)
        assert value == pytest.approx(exact, abs=1e-12)
    decision = data.target_value("noise_stability", "decision", kappa)
    assert decision == pytest.approx(2 * exact - 1, abs=1e-12)


@pytest.mark.parametrize("modulus", [2, 3, 5])
def test_the_sensitivity_of_modular_addition(modulus: int) -> None:
    data = ModularAddition(modulus=modulus, n_train=1, n_val=1, n_test=1)
    exact = sensitivity_by_enumeration(lambda x: sum(x) % modulus, 2, modulus)
    for reduction in ("decision", "probability_distance"):
        assert data.target_value("average_sensitivity", reduction, math.nan) == exact


@pytest.mark.parametrize(("n", "secret"), [(1, (0,)), (3, (0, 2)), (4, (0, 1, 3))])
def test_the_sensitivity_of_sparse_parity(n: int, secret: tuple[int, ...]) -> None:
    exact = sensitivity_by_enumeration(lambda x: sum(x[place] for place in secret) % 2, n, 2)
    for reduction in ("decision", "probability_distance"):
        data = SparseParity(n=n, k=len(secret))
        assert data.target_value("average_sensitivity", reduction, math.nan) == exact


def test_another_tasks_data_set_is_refused(tmp_path: Path) -> None:
    write_datasets("sparse_parity", {"n": 5, "k": 2}, [0], tmp_path / "data")
    assert read_dataset(tmp_path / "data", 0, "sparse_parity").n_classes == 2
    with pytest.raises(RecordError, match="data set of sparse_parity, not of modular_addition"):
        read_dataset(tmp_path / "data", 0, "modular_addition")
