"""How many operations matrix products take."""

from __future__ import annotations

from typing import Any, ClassVar

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class OperationCounter(TorchDispatchMode):
    """Adds up, in `total`, the operations of the matrix products inside its `with`, and of those that `count` tells of.

    They are those of torch's FlopCounterMode, which imports torch's compiler first: 1.3 s of a process.
    """

    on: ClassVar[OperationCounter | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __enter__(self) -> OperationCounter:
        OperationCounter.on = self
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        OperationCounter.on = None
        super().__exit__(*error)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if operations := flop_registry.get(func._overloadpacket):
            self.total += operations(*args, **kwargs, out_val=out)
        return out


def count(operations: int) -> None:
    """Add what is computed by no function of torch's to the counter that is on, if one is."""
    if OperationCounter.on is not None:
        OperationCounter.on.total += operations
