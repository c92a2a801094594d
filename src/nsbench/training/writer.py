"""Files that are written beside the training: copies leave a GPU by a stream of their own, a thread writes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor

CHANGES_NO_RESULT = True

MOST_WAITING = 2
"""Jobs that may wait, so that their copies do not fill the memory."""


class Writer:
    """Does jobs in the order in which they are given; the error of one is raised by a later call, or by `finish`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __call__(self, job: Callable[[], None]) -> None:
        """Have a job done soon."""
        self.finish(but=MOST_WAITING)
        self._waiting.append(self._thread.submit(job))

    def finish(self, but: int = 0) -> None:
        """Wait until all jobs are done, or all but so many."""
        while self._waiting and (len(self._waiting) > but or self._waiting[0].done()):
            self._waiting.popleft().result()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()
        if kind is None:
            self.finish()


def host_copy(value: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor as it is now to the CPU; what is returned waits for the copy and gives it."""
    copy = value.detach().clone()
    if copy.device.type != "cuda":
        return lambda: copy
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        host = torch.empty(copy.shape, dtype=copy.dtype, pin_memory=True).copy_(copy, non_blocking=True)
        copy.record_stream(side)
        done = side.record_event()

    def wait() -> Tensor:
        done.synchronize()
        return host

    return wait
