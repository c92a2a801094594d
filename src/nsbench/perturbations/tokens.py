"""Noisy copies of sequences of token ids (Equation 7).

Its correlation with the original is not rho: see `nsbench.theory.resampling_correlation`.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def resample_tokens(
    tokens: Tensor,
    rho: float,
    symbols: int | Sequence[int] | Tensor,
    generator: torch.Generator | None = None,
    *,
    same_symbol: bool = True,
    fixed_ids: Sequence[int] | Tensor | None = None,
) -> Tensor:
    """Draw Y of Equation 7: each token stays with probability (1 + rho) / 2, else is redrawn.

    tokens: integer tensor of any shape. symbols: U, any integer, meaning ids 0 ... U-1, or ids: a list, a range, a
    tensor with an axis. same_symbol: whether a redraw may return the token that was there. fixed_ids: ids of tokens
    that are never redrawn. generator: on the device of `tokens`; torch's own where None.

    Returns a tensor like `tokens`. Raises ValueError for rho outside [-1, 1], for no symbol to draw, and for tokens or
    ids that are no integers, or that the type of `tokens` cannot hold.
    """
    if not -1 <= rho <= 1:
        raise ValueError(f"rho = {rho} is outside [-1, 1]")
    here, symbols = require_tokens(tokens).long(), as_symbols(symbols)
    ids, most = _ids(symbols, same_symbol), torch.iinfo(tokens.dtype).max
    # Of an integer no tensor is asked, for code that is compiled.
    first, last = (0, symbols - 1) if isinstance(symbols, int) else (int(ids[0]), int(ids[-1]))
    if first < 0 or last > most:
        raise ValueError(f"symbols has ids {first} ... {last}; tokens of {tokens.dtype} allow 0 ... {most}")
    ids = ids.to(tokens.device)
    uniform, choice = _uniform((2, *tokens.shape), generator, tokens.device)
    if same_symbol:
        drawn = (choice * len(ids)).long()
    else:
        # A token steps 1 ... U-1 places round the circle of symbols; one that is not among them
        # may become any.
        index = torch.searchsorted(ids, here.contiguous()).clamp_(max=len(ids) - 1)
        known = ids[index] == here
        steps = (choice * torch.where(known, len(ids) - 1, len(ids))).long()
        drawn = torch.where(known, (index + 1 + steps) % len(ids), steps)
    redraw = uniform >= (1 + rho) / 2
    if fixed_ids is not None:
        redraw &= ~torch.isin(here, _integers(fixed_ids, "fixed_ids").to(tokens.device))
    return torch.where(redraw, ids[drawn], here).to(tokens.dtype)


def require_tokens(tokens: Tensor) -> Tensor:
    """The tokens. Raises ValueError for what is no tensor of integers."""
    if not isinstance(tokens, Tensor) or not _is_of_integers(tokens):
        what = f"a tensor of {tokens.dtype}" if isinstance(tokens, Tensor) else f"a {type(tokens).__name__}"
        raise ValueError(f"tokens is {what}; a tensor of integers is allowed")
    return tokens


def _uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Numbers in [0, 1): float64, or float32 on a device without that, as Apple's."""
    try:
        return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    except TypeError:
        return torch.rand(shape, generator=generator, device=device, dtype=torch.float32)


class StackNoise:
    """`resample_tokens` for a stack: each run with a rho of its own, from random words, reading no value of a tensor.

    rhos: one a run; None redraws one token of each example. symbols, same_symbol, fixed_ids: as there; a token of
    `fixed_ids` stays where it is the one. vocabulary: all ids are below it. Suffix V: id.
    """

    def __init__(
        self,
        rhos: list[float | None],
        symbols: Tensor,
        vocabulary: int,
        device: torch.device,
        *,
        same_symbol: bool = True,
        fixed_ids: Tensor | None = None,
    ) -> None:
        ids, place_V = _ids(symbols, same_symbol), torch.full((vocabulary,), -1)
        place_V[ids] = torch.arange(len(ids))
        free_V = torch.ones(vocabulary, dtype=torch.bool)
        if fixed_ids is not None:
            free_V[fixed_ids] = False
        self.same_symbol = same_symbol
        self.ids, self.place_V, self.free_V = (table.to(device) for table in (ids, place_V, free_V))
        self.changed = ChangedPositions(rhos, device)

    def n_words(self, shape: tuple[int, ...]) -> int:
        """Random words that one run takes for a batch (B, T)."""
        return 2 * math.prod(shape)

    def __call__(self, tokens_RBT: Tensor, words_RW: Tensor) -> Tensor:
        """Y for tokens below the vocabulary. words_RW: of `philox.random_words`, whether to redraw and what."""
        chance_RBT, choice_RBT = words_RW.view(len(tokens_RBT), 2, *tokens_RBT.shape[1:]).unbind(1)
        n_ids = len(self.ids)
        if self.same_symbol:
            drawn_RBT = below(choice_RBT, n_ids)
        else:
            place_RBT = self.place_V[tokens_RBT]
            known_RBT = place_RBT >= 0
            steps_RBT = below(choice_RBT, n_ids - known_RBT.long())
            drawn_RBT = torch.where(known_RBT, (place_RBT + 1 + steps_RBT) % n_ids, steps_RBT)
        redraw_RBT = self.changed(chance_RBT) & self.free_V[tokens_RBT]
        return torch.where(redraw_RBT, self.ids[drawn_RBT], tokens_RBT)


class ChangedPositions:
    """Which tokens of a stack's batches noise changes.

    rhos: one a run. A token changes with probability (1 - rho) / 2, whatever the others do (Equation 7); None: one
    token of each example does, each with the same chance.
    """

    def __init__(self, rhos: list[float | None], device: torch.device) -> None:
        kept = [0 if rho is None else round((1 + rho) / 2 * 2**32) for rho in rhos]
        self._kept_R11 = torch.tensor(kept).view(-1, 1, 1).to(device)
        self._one_R11 = torch.tensor([rho is None for rho in rhos]).view(-1, 1, 1).to(device)
        self._some_one = None in rhos

    def __call__(self, chance_RBT: Tensor) -> Tensor:
        """Bool, of the shape of the random words that it takes."""
        each_RBT = chance_RBT >= self._kept_R11
        if not self._some_one:
            return each_RBT
        length = chance_RBT.shape[-1]
        one_RBT = torch.arange(length, device=chance_RBT.device) == below(chance_RBT[..., :1], length)
        return torch.where(self._one_R11, one_RBT, each_RBT)


def below(words: Tensor, n: int | Tensor) -> Tensor:
    """Numbers 0 ... n - 1 from random words, each with probability 1/n up to n / 2^32; n is below 2^31."""
    return words * n >> 32


def as_symbols(symbols: int | Sequence[int] | Tensor) -> int | Tensor:
    """`symbols` as an integer or a tensor of ids. Raises ValueError where it is neither."""
    if type(symbols) is int:
        return symbols
    given = _integers(symbols, "symbols")
    return given if given.ndim else int(given)


def _ids(symbols: int | Tensor, same_symbol: bool) -> Tensor:
    ids = torch.arange(max(symbols, 0)) if isinstance(symbols, int) else symbols.unique()
    if len(ids) < (1 if same_symbol else 2):
        raise ValueError(f"symbols has {len(ids)} ids; a redraw needs at least {1 if same_symbol else 2}")
    return ids


def _integers(value: Any, name: str) -> Tensor:
    try:
        found = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or not (_is_of_integers(found) or found.numel() == 0):
        kind = getattr(value, "dtype", type(value).__name__)
        raise ValueError(
            f"{name} is {reprlib.repr(value)} ({kind}); an integer, or a list or tensor of these, is allowed"
        )
    return found.long()


def _is_of_integers(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
