"""Noise on images: each law against its moments, and what changes against its chances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nsbench.perturbations.patches import PatchChange, StackPatchNoise, change_patches, normals, scatter
from nsbench.storage.philox import Stream, random_words, run_keys

CPU = torch.device("cpu")
LENGTH, WIDTH = 4, 9


def change(law: str, sigma: float = 0.7) -> PatchChange:
    return PatchChange(law, sigma, torch.full((1, 1, 1, 1), 0.3), torch.full((1, 1, 1, 1), 0.5))


def images(n: int) -> Tensor:
    """Pixels of mean 0.3 and standard deviation 0.5."""
    return 0.3 + 0.5 * torch.randn(n, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1))


def copies(x: Tensor, law: str, rho: float | None, way: str) -> Tensor:
    """Noisy copies by one of the two ways: of a data set, or of a stack's batch."""
    if way == "stack":
        noise = StackPatchNoise([rho], change(law), CPU)
        words = random_words(run_keys([7]), noise.n_words(x.shape), 5, Stream.NOISE)
        return noise(x[None], words)[0]
    generator = torch.Generator().manual_seed(2)
    changed = torch.rand(x.shape[:2], generator=generator) >= (1 + rho) / 2
    return change_patches(x, changed, change(law), generator)


def test_normal_numbers_of_words_are_normal() -> None:
    z = normals(random_words(run_keys([1, 2]), 100_000, 0, Stream.NOISE))
    assert z.shape == (2, 100_000)
    assert z.isfinite().all()
    for moment, exact in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        spread = math.sqrt({1: 1, 2: 2, 3: 15, 4: 96}[moment] / z.numel())
        assert z.double().pow(moment).mean().item() == pytest.approx(exact, abs=4.5 * spread)
    # Neither neighbours, nor the two that one pair of words gives, nor runs go together.
    first, second = z[:, :50_000], z[:, 50_000:]
    for a, b in ((z[0, 1:], z[0, :-1]), (first, second), (first * first, second * second), (z[0], z[1])):
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].abs() < 4.5 / math.sqrt(a.numel())
    # The largest and the smallest words are numbers too.
    assert normals(torch.tensor([[0, 2**32 - 1, 0, 2**32 - 1]])).isfinite().all()


@pytest.mark.parametrize("way", ["data set", "stack"])
@pytest.mark.parametrize("law", ["patch_gaussian", "ornstein_uhlenbeck", "other_patch"])
def test_a_law_has_its_moments(law: str, way: str) -> None:
    x = images(4000)
    y = copies(x, law, -1.0, way)
    n = x.numel()
    mean, std = y.mean().item(), y.std().item()
    covariance = ((x - 0.3) * (y - 0.3)).mean().item()
    kappa = 1 / math.sqrt(1 + 0.7**2)
    wanted = {
        "patch_gaussian": (math.sqrt(0.25 + 0.49), 0.25),
        "ornstein_uhlenbeck": (0.5, 0.25 * kappa),
        "other_patch": (0.5, 0.0),
    }[law]
    assert mean == pytest.approx(0.3, abs=5 * wanted[0] / math.sqrt(n / 2))
    assert std == pytest.approx(wanted[0], rel=0.02)
    assert covariance == pytest.approx(wanted[1], abs=0.006)
    assert (y != x).any(-1).all()


@pytest.mark.parametrize("way", ["data set", "stack"])
def test_another_patch_is_that_of_another_example_at_the_same_place(way: str) -> None:
    x = torch.arange(5 * LENGTH).view(5, LENGTH, 1).expand(-1, -1, WIDTH).float()
    y = copies(x, "other_patch", -1.0, way)
    example, place = y[..., 0] // LENGTH, y[..., 0] % LENGTH
    assert (place == torch.arange(LENGTH)).all()
    assert (example != torch.arange(5)[:, None]).all()
    assert (y == y[..., :1]).all()
    assert len(example.unique()) == 5


@pytest.mark.parametrize("rho", [-1.0, 0.5, 1.0])
def test_a_patch_changes_with_the_chance_of_equation_7(rho: float) -> None:
    x, p = images(3000), (1 - rho) / 2
    for way in ("data set", "stack"):
        changed = (copies(x, "patch_gaussian", rho, way) != x).all(-1)
        assert ((copies(x, "patch_gaussian", rho, way) != x).any(-1) == changed).all()
        assert changed.double().mean().item() == pytest.approx(p, abs=4.5 * math.sqrt(p * (1 - p) / changed.numel()))


def test_without_rho_one_patch_of_each_example_changes_wherever() -> None:
    x = images(3000)
    changed = (copies(x, "patch_gaussian", None, "stack") != x).any(-1)
    assert (changed.sum(1) == 1).all()
    counts = changed.sum(0)
    assert ((counts - 750).abs() < 4.5 * math.sqrt(3000 * 0.25 * 0.75)).all()


def test_runs_of_a_stack_have_the_noise_that_they_have_alone() -> None:
    """Whatever rho the others have, one token among them, and their data's moments."""
    x = torch.stack([images(6), images(6) + 1])
    moments = torch.tensor([0.3, 1.3]).view(2, 1, 1, 1), torch.tensor([0.5, 0.2]).view(2, 1, 1, 1)
    rhos, keys = [0.2, None], run_keys([3, 4])
    for law in ("patch_gaussian", "ornstein_uhlenbeck", "other_patch"):
        noise = StackPatchNoise(rhos, PatchChange(law, 0.7, *moments), CPU)
        both = noise(x, random_words(keys, noise.n_words(x.shape[1:]), 9, Stream.NOISE))
        for run in range(2):
            own = PatchChange(law, 0.7, *(moment[run : run + 1] for moment in moments))
            alone = StackPatchNoise([rhos[run]], own, CPU)
            words = random_words(keys[run : run + 1], alone.n_words(x.shape[1:]), 9, Stream.NOISE)
            assert torch.equal(alone(x[run : run + 1], words)[0], both[run])


def test_scattered_noise_is_on_the_same_pixels_of_all_images() -> None:
    x = images(50)
    generator = torch.Generator().manual_seed(0)
    counts = []
    for _ in range(300):
        there = (scatter(x, 1.0, generator) != x).flatten(1)
        assert (there == there[0]).all()
        counts.append(there[0].sum().item())
    # WIDTH draws with replacement from all pixels.
    n = LENGTH * WIDTH
    assert sum(counts) / 300 == pytest.approx(n * (1 - (1 - 1 / n) ** WIDTH), abs=0.25)
    added = (scatter(x, 2.0, generator) - x).flatten(1)
    assert added[:, added[0] != 0].std().item() == pytest.approx(2.0, rel=0.2)
