"""Trainer, accelerate and Lightning in two processes that train together: each has the gradient of one large batch."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from nsbench import NoiseStabilityRegularizer
from tests import test_integrations as one
from tests.wheel import loops


def meet(rank: int, port: int) -> None:
    """Say in the environment what torchrun says there."""
    ranks = dict.fromkeys(("RANK", "LOCAL_RANK"), rank) | dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), 2)
    os.environ.update({name: str(value) for name, value in ranks.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GROUP_RANK="0", TORCHELASTIC_RUN_ID="0")
    torch.set_num_threads(1)


def of_accelerate(rank: int) -> Tensor:
    accelerator, model = Accelerator(cpu=True, mixed_precision="no", gradient_accumulation_steps=2), one.causal_model()
    found: list[Tensor] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: found.append(one.gradient_of(model)))
    shared, prepared = accelerator.prepare(model, optimizer)
    mine = [one.rows(slice(start, start + 2)) for start in range(4 * rank, 4 * rank + 4, 2)]
    names = {"accelerator": accelerator, "model": shared, "optimizer": prepared, "regularizer": one.regularizer()}
    exec(one.recipe("accelerate"), {**names, "optimizer_steps": [mine]})
    return found[0]


def draws_differ() -> bool:
    """With the seed that Trainer has set in both."""
    tokens = torch.zeros(4, 8, dtype=torch.long)
    drawn = NoiseStabilityRegularizer(-1.0, 0.75, symbols=1000).resample(tokens)
    both, seeds = ([torch.empty_like(value) for _ in range(2)] for value in (drawn, torch.zeros(1, dtype=torch.long)))
    torch.distributed.all_gather(both, drawn)
    torch.distributed.all_gather(seeds, torch.tensor([torch.initial_seed()]))
    return torch.equal(*seeds) and not torch.equal(*both)


def main(rank: int, folder: Path) -> None:
    of_trainer = one.of_trainer(folder, 1, processes=2, ddp_backend="gloo")
    assert torch.allclose(of_trainer, one.expected_of_trainer(), atol=1e-6), "Trainer"
    assert draws_differ(), "both processes draw the same noise"
    assert torch.allclose(of_accelerate(rank), one.expected(), atol=1e-6), "accelerate"
    of_lightning = loops.of_lightning(processes=2, strategy="ddp")
    assert torch.allclose(of_lightning, loops.expected_of_lightning(), atol=1e-6), "Lightning"
    os.write(1, f"rank {rank}: as one large batch\n".encode())


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    child = os.fork()
    meet(int(child == 0), number)
    try:
        main(int(child == 0), Path(sys.argv[1]))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    if not child:
        os._exit(0)
    sys.exit(os.waitpid(child, 0)[1] != 0)
