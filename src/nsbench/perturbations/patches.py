"""Noisy copies of images: sequences of T patches of P pixels in [-1, 1].

Definition 6.1 has a law for tokens alone; these are what sections 3 and 4 of arXiv 2403.06925 and its code put in its
place. Which tokens change, and what a changed one becomes, are two questions: with a rho each token stays with
probability (1 + rho) / 2, without one a single token of each example changes, all with the same chance.
Shape suffixes: R run, B batch (example), N example, T position, P pixel of a patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nsbench.perturbations import PatchLaw
from nsbench.perturbations.tokens import ChangedPositions, below


@dataclass(frozen=True)
class PatchChange:
    """What a changed patch x becomes, with z of N(0, I).

    patch_gaussian: x + sigma z. The pixels' scale grows with sigma.
    ornstein_uhlenbeck: m + kappa (x - m) + sqrt(1 - kappa^2) s z with kappa = 1 / sqrt(1 + sigma^2), which keeps the
        mean m and the standard deviation s of the pixels.
    other_patch: the patch at the same place of another example, each with the same chance; sigma has no meaning.
    """

    law: PatchLaw
    sigma: float
    mean_R111: Tensor
    """m, of all training pixels of each run's data."""
    std_R111: Tensor
    """s, likewise."""

    @property
    def normals(self) -> bool:
        """Whether it takes normal numbers; else it takes the numbers of other examples."""
        return self.law != "other_patch"

    def __call__(self, x_RBTP: Tensor, z_RBTP: Tensor) -> Tensor:
        """The changed patches, all of them. z_RBTP: numbers of N(0, 1)."""
        if self.law == "patch_gaussian":
            return x_RBTP + self.sigma * z_RBTP
        kappa = 1 / math.sqrt(1 + self.sigma**2)
        centred_RBTP = kappa * (x_RBTP - self.mean_R111) + math.sqrt(1 - kappa**2) * self.std_R111 * z_RBTP
        return self.mean_R111 + centred_RBTP


def change_patches(x_NTP: Tensor, changed_NT: Tensor, change: PatchChange, generator: torch.Generator) -> Tensor:
    """The images with the patches changed that `changed_NT` (bool) marks, each by numbers of its own."""
    if change.normals:
        y_NTP = change(x_NTP[None], torch.randn(x_NTP.shape, generator=generator)[None])[0]
    else:
        # A single image has itself alone.
        others_NT = torch.randint(1, max(2, len(x_NTP)), changed_NT.shape, generator=generator)
        y_NTP = _of_others(x_NTP[None], others_NT[None])[0]
    return torch.where(changed_NT[..., None], y_NTP, x_NTP)


def scatter(x_NTP: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """sigma z added at as many pixels as a patch has, drawn with replacement over the whole image, once for all images.

    This is what the code of arXiv 2403.06925 measures where the text has a patch; z differs from image to image.
    """
    n_images, length, width = x_NTP.shape
    pixels_P = torch.randint(length * width, (width,), generator=generator).unique()
    y_NX = x_NTP.flatten(1).clone()
    y_NX[:, pixels_P] += sigma * torch.randn(n_images, len(pixels_P), generator=generator)
    return y_NX.view(x_NTP.shape)


class StackPatchNoise:
    """Noisy copies of a stack's batches of images, from random words; no value of a tensor is read.

    rhos: one a run; None changes one patch of each example.
    """

    def __init__(self, rhos: list[float | None], change: PatchChange, device: torch.device) -> None:
        self.change, self._changed = change, ChangedPositions(rhos, device)

    def n_words(self, shape: tuple[int, ...]) -> int:
        """Random words that one run takes for a batch (B, T, P)."""
        batch, length, width = shape
        return batch * length * (1 + (width + width % 2 if self.change.normals else 1))

    def __call__(self, x_RBTP: Tensor, words_RW: Tensor) -> Tensor:
        """The noisy copies. words_RW: of `philox.random_words`, as many as `n_words` says."""
        shape_RBT = x_RBTP.shape[:3]
        n_tokens = math.prod(shape_RBT[1:])
        changed_RBT = self._changed(words_RW[:, :n_tokens].view(shape_RBT))
        rest_RW = words_RW[:, n_tokens:]
        if self.change.normals:
            z_RBTP = normals(rest_RW).view(*shape_RBT, -1)[..., : x_RBTP.shape[-1]]
            y_RBTP = self.change(x_RBTP, z_RBTP)
        else:
            y_RBTP = _of_others(x_RBTP, 1 + below(rest_RW.view(shape_RBT), shape_RBT[1] - 1))
        return torch.where(changed_RBT[..., None], y_RBTP, x_RBTP)


def normals(words_RW: Tensor) -> Tensor:
    """Numbers of N(0, 1), float32, one for each of an even number of random words: those of Box and Muller (1958)."""
    radius_words_RH, angle_words_RH = words_RW.chunk(2, 1)
    uniform_RH = (radius_words_RH.float() + 0.5) * 2.0**-32
    radius_RH = torch.log(uniform_RH.clamp(max=1.0)).mul(-2).sqrt()
    angle_RH = angle_words_RH.float() * (2 * math.pi * 2.0**-32)
    return torch.cat([radius_RH * angle_RH.cos(), radius_RH * angle_RH.sin()], 1)


def _of_others(x_RBTP: Tensor, ahead_RBT: Tensor) -> Tensor:
    """At each place the patch of the example that is so many ahead in the batch, round its end."""
    n_runs, batch, length, _ = x_RBTP.shape
    here_RBT = torch.arange(batch, device=x_RBTP.device).view(1, -1, 1) + ahead_RBT
    run_R11 = torch.arange(n_runs, device=x_RBTP.device).view(-1, 1, 1)
    return x_RBTP[run_R11, here_RBT % batch, torch.arange(length, device=x_RBTP.device)]
