"""A request to stop that is granted at a good moment: SIGTERM or Ctrl-C; a second one stops at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

CHANGES_NO_RESULT = True

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """True once the process was asked to stop."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    @property
    def status(self) -> int:
        """The exit status that says by which signal, as shells have it."""
        return 128 + (self.number or 0)


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Inside, SIGTERM and SIGINT are noted for the block to look at; in a thread that is not the main one they
    are left as they are, since only the main one may handle signals."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        if request:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        request.number = number

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
