"""Philox4x32-10: known answers, the kernels against the definition in numpy, and what a run's numbers depend on."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from nsbench.perturbations.tokens import below
from nsbench.storage import philox as module
from nsbench.storage.philox import Stream, fill_bits, philox, random_words, run_keys
from nsbench.storage.seeding import stream_key

SEEDS = [3, 0, 11]
ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ((0,) * 6, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ONES,) * 6, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (PI, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_known_answers_of_random123(words: tuple[int, ...], answer: str) -> None:
    assert " ".join(f"{word:08x}" for word in philox(list(words[:4]), words[4:])) == answer


def defined(seed: int, n_words: int, step: int, stream: int, draw: int) -> np.ndarray:
    """The words of a run, block by block from the definition."""
    key = stream_key(seed)
    blocks = [
        philox([block, step, stream + 256 * draw, 0], (key % 2**32, key // 2**32)) for block in range(n_words // 4)
    ]
    return np.array(blocks, np.uint32).T.flatten()


@pytest.mark.parametrize("compiled", [True, False])
def test_each_run_has_the_words_of_its_own_counters(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled:
        pytest.importorskip("numba")
    monkeypatch.setattr(module, "has_numba", lambda: compiled)
    out_RN = torch.empty(3, 8 * 37, dtype=torch.int16)
    for step, stream, draw in ((0, Stream.DROPOUT, 0), (2**31 + 5, Stream.NOISE, 2**24 - 1)):
        fill_bits(out_RN, run_keys(SEEDS), step, stream, draw)
        for row, seed in zip(out_RN, SEEDS, strict=True):
            assert np.array_equal(row.numpy().view(np.uint32), defined(seed, 4 * 37, step, stream, draw))


def test_the_kernel_of_a_gpu_makes_the_same_words() -> None:
    """Under Triton's interpreter, so that no GPU is needed."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed: it comes with torch's builds for a GPU")
    code = """if True:
        import torch
        from nsbench.storage.philox import Stream, fill_bits, run_keys
        from nsbench.storage.philox_triton import fill_on_gpu
        cpu, gpu = torch.empty(2, 3, 4 * 700, dtype=torch.int32)
        keys = run_keys([3, 0, 11])
        for step, stream, draw in ((0, Stream.DROPOUT, 0), (2**32 - 1, Stream.NOISE, 2**24 - 1)):
            fill_bits(cpu, keys, step, stream, draw)
            fill_on_gpu(gpu, keys, torch.tensor(step), stream | draw << 8)
            assert torch.equal(cpu, gpu)
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=os.environ | {"TRITON_INTERPRET": "1"}, check=True)


def test_a_step_on_the_device_gives_what_its_number_gives(device: torch.device) -> None:
    one, other = torch.empty(2, 3, 64, dtype=torch.int16, device=device)
    fill_bits(one, run_keys(SEEDS, device), 9, Stream.NOISE, 1)
    fill_bits(other, run_keys(SEEDS, device), torch.tensor(9, device=device), Stream.NOISE, 1)
    assert torch.equal(one, other)
    on_cpu = torch.empty(3, 64, dtype=torch.int16)
    fill_bits(on_cpu, run_keys(SEEDS), 9, Stream.NOISE, 1)
    assert torch.equal(one.cpu(), on_cpu)


def test_a_run_s_numbers_do_not_depend_on_its_stack() -> None:
    together, alone = torch.empty(3, 80, dtype=torch.int16), torch.empty(1, 80, dtype=torch.int16)
    fill_bits(together, run_keys(SEEDS), 4, Stream.DROPOUT)
    fill_bits(alone, run_keys(SEEDS[2:]), 4, Stream.DROPOUT)
    assert torch.equal(together[2], alone[0])


def test_seeds_steps_streams_and_draws_have_numbers_of_their_own() -> None:
    n, filled = 8000, []
    for seed, step, stream, draw in itertools.product((0, 1), (0, 1), Stream, (0, 1)):
        out = torch.empty(1, n, dtype=torch.int16)
        fill_bits(out, run_keys([seed]), step, stream, draw)
        filled.append(out[0].double())
    correlations = torch.corrcoef(torch.stack(filled)) - torch.eye(len(filled))
    assert correlations.abs().max() < 5 / n**0.5


def test_words_and_numbers_below_a_bound_are_uniform() -> None:
    n, bound = 100_000, 7
    words = random_words(run_keys([5]), n, 3, Stream.NOISE)
    assert words.shape == (1, n)
    assert abs(words.double().mean() / 2**32 - 0.5) < 4 / (12 * n) ** 0.5
    counts = torch.bincount(below(words, bound)[0])
    assert len(counts) == bound
    assert ((counts - n / bound).square() / (n / bound)).sum() < 6 + 5 * 12**0.5


def test_rows_that_hold_no_whole_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="14 bytes"):
        fill_bits(torch.empty(1, 7, dtype=torch.int16), run_keys([0]), 0, Stream.DROPOUT)
