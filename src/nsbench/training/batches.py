"""The training data of a stack on its device, and the batches of its next steps.

Shape suffixes: D data set, R run, N example, T position, K step ahead, B place in a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nsbench.data.datasets import Dataset, EpochOrder


class Batches:
    """What steps look at: `load` sends the orders of some steps to the device, the rest happens there.

    Data sets that are equal, as those of arms that share a seed, are held once. ahead: at most so many steps at once.
    """

    def __init__(
        self, seeds: list[int], datasets: list[Dataset], batch_size: int, ahead: int, device: torch.device
    ) -> None:
        names = [data.sha256 or id(data) for data in datasets]
        distinct = dict(zip(names, datasets, strict=True))
        self._tokens_DNT, self._labels_DN = (
            torch.stack([data[name] for data in distinct.values()]).to(device)
            for name in ("train_tokens", "train_labels")
        )
        self._set_R1 = torch.tensor([[list(distinct).index(name)] for name in names]).to(device)
        self._orders = [EpochOrder(seed, len(datasets[0]["train_labels"])) for seed in seeds]
        self.size = batch_size
        self._rows_KRB = torch.zeros(ahead, len(seeds), batch_size, dtype=torch.int64, device=device)

    def load(self, step: int, count: int) -> None:
        """Make `count` steps ready, the first being number `step` (from 0)."""
        first, n_rows = step * self.size, count * self.size
        rows_RKB = torch.stack([order.rows(first, n_rows).view(count, -1) for order in self._orders])
        rows_KRB = rows_RKB.transpose(0, 1).contiguous()
        if self._rows_KRB.device.type == "cuda":
            rows_KRB = rows_KRB.pin_memory()
        self._rows_KRB[:count].copy_(rows_KRB, non_blocking=True)

    def __call__(self, place: int) -> tuple[Tensor, Tensor]:
        """Tokens (R, B, T) and labels (R, B), or (R, B, T), of the step that is `place` (from 0) ahead."""
        rows_RB = self._rows_KRB[place]
        return self._tokens_DNT[self._set_R1, rows_RB], self._labels_DN[self._set_R1, rows_RB]
