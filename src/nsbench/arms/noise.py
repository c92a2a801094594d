"""The noisy copy of a token sequence (Equation 7).

Its correlation with the original is not rho: see `nsbench.theory.resampling_correlation`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nsbench.storage.philox import below


def resample_tokens(
    tokens: Tensor,
    rho: float,
    symbols: int | Tensor,
    generator: torch.Generator | None = None,
    *,
    same_symbol: bool = True,
    fixed_ids: Tensor | None = None,
) -> Tensor:
    """Draw Y of Equation 7: each token stays with probability (1 + rho) / 2, else is redrawn.

    tokens: integer tensor of any shape. symbols: U, meaning ids 0 ... U-1, or a tensor of ids.
    same_symbol: whether a redraw may return the token that was there. fixed_ids: ids of tokens that
    are never redrawn. generator: on the device of `tokens`; torch's own where None.

    Returns a tensor like `tokens`. Raises ValueError for rho outside [-1, 1] or no symbol to draw.
    """
    if not -1 <= rho <= 1:
        raise ValueError(f"rho = {rho} is outside [-1, 1]")
    ids = _ids(symbols, same_symbol).to(device=tokens.device, dtype=tokens.dtype)
    uniform, choice = torch.rand((2, *tokens.shape), generator=generator, device=tokens.device, dtype=torch.float64)
    if same_symbol:
        drawn = (choice * len(ids)).long()
    else:
        # A token steps 1 ... U-1 places round the circle of symbols; one that is not among them
        # may become any.
        index = torch.searchsorted(ids, tokens.contiguous()).clamp_(max=len(ids) - 1)
        known = ids[index] == tokens
        steps = (choice * torch.where(known, len(ids) - 1, len(ids))).long()
        drawn = torch.where(known, (index + 1 + steps) % len(ids), steps)
    redraw = uniform >= (1 + rho) / 2
    if fixed_ids is not None:
        redraw &= ~torch.isin(tokens, fixed_ids.to(tokens.device))
    return torch.where(redraw, ids[drawn], tokens)


class StackNoise:
    """`resample_tokens` for a stack: each run with a rho of its own, from random words, reading no value of a tensor.

    rhos: one a run. symbols, same_symbol, fixed_ids: as there. vocabulary: all ids are below it. Suffix V: id.
    """

    def __init__(
        self,
        rhos: list[float],
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
        self.kept_R11 = torch.tensor([round((1 + rho) / 2 * 2**32) for rho in rhos]).view(-1, 1, 1).to(device)

    def __call__(self, tokens_RBT: Tensor, words_R2BT: Tensor) -> Tensor:
        """Y for tokens below the vocabulary. words_R2BT: of `philox.random_words`, whether to redraw and what."""
        chance_RBT, choice_RBT = words_R2BT.unbind(1)
        n_ids = len(self.ids)
        if self.same_symbol:
            drawn_RBT = below(choice_RBT, n_ids)
        else:
            place_RBT = self.place_V[tokens_RBT]
            known_RBT = place_RBT >= 0
            steps_RBT = below(choice_RBT, n_ids - known_RBT.long())
            drawn_RBT = torch.where(known_RBT, (place_RBT + 1 + steps_RBT) % n_ids, steps_RBT)
        redraw_RBT = (chance_RBT >= self.kept_R11) & self.free_V[tokens_RBT]
        return torch.where(redraw_RBT, self.ids[drawn_RBT], tokens_RBT)


def _ids(symbols: int | Tensor, same_symbol: bool) -> Tensor:
    ids = torch.arange(symbols) if isinstance(symbols, int) else symbols.unique()
    if len(ids) < (1 if same_symbol else 2):
        raise ValueError(f"symbols has {len(ids)} ids; a redraw needs at least {1 if same_symbol else 2}")
    return ids
