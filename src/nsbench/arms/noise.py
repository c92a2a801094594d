"""The noisy copy of a token sequence (Equation 7).

Its correlation with the original is not rho: see `nsbench.theory.resampling_correlation`.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
    ids = torch.arange(symbols) if isinstance(symbols, int) else symbols.unique()
    ids = ids.to(device=tokens.device, dtype=tokens.dtype)
    if len(ids) < (1 if same_symbol else 2):
        raise ValueError(f"symbols has {len(ids)} ids; a redraw needs at least {1 if same_symbol else 2}")
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
