"""How far a call of the workflow is, and how long the rest takes: guessed before, corrected by the pace so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

PRIOR_SECONDS = 20.0
"""How long the guess before is believed: after that time it counts as much as the pace so far."""
LOOK_SECONDS = 5.0
OVERTIME = 0.2
"""What a job that is due takes longer yet, as a share of its time so far."""


@dataclass(frozen=True)
class Job:
    """A job of a call."""

    id: int
    seconds: float
    """Guessed."""
    needs: tuple[int, ...] = ()
    """The jobs of the call that it waits for."""
    on_gpu: bool = False
    share: Callable[[], float] | None = None
    """How much of it is done while it runs, 0 to 1; None: nobody knows."""


class Pace:
    """The work of a call.

    What is left takes as long as all of it on all cores, as all of it that needs a GPU, or as the longest chain of jobs
    that wait for each other. So the share that is done is one of time; it falls only where a failed job begins again.
    """

    def __init__(self, jobs: Iterable[Job], cores: int, gpus: int, began: float) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.cores, self.gpus, self.began = max(1, cores), max(1, gpus), began
        self.n_jobs, self.n_done = len(self.jobs), 0
        self.waiting: dict[int, list[int]] = {job: [] for job in self.jobs}
        """By job: those that wait for it."""
        for job in self.jobs.values():
            for need in job.needs:
                self.waiting[need].append(job.id)
        self.after = self._chains()
        self.open = set(self.jobs)
        self.running: dict[int, float] = {}
        self.slowness = 1.0
        """Seconds that a guessed one takes."""
        self.total = self.least = self._left(began)
        self.looked = (-math.inf, 0.0, 0.0)

    def __contains__(self, job: int) -> bool:
        return job in self.jobs

    def start(self, job: int, now: float) -> None:
        """A job began, maybe again."""
        self._change(self.open | self._with_waiting(job), now)
        self.running[job] = now

    def stop(self, job: int, now: float) -> None:
        """A job failed: what waits for it is not done, unless it begins again."""
        self.running.pop(job, None)
        self._change(self.open - self._with_waiting(job), now)

    def _change(self, to_do: set[int], now: float) -> None:
        """Let other jobs be open. What is no longer to be done counts as never asked for, not as done."""
        if to_do != self.open:
            before = self._left(now)
            self.open = to_do
            more = self._left(now) - before
            self.total, self.least = max(0.0, self.total + more), max(0.0, self.least + more)
            self.looked = (-math.inf, 0.0, 0.0)

    def finish(self, job: int, now: float) -> None:
        self.running.pop(job, None)
        self.open.discard(job)
        self.n_done += 1
        self.looked = (-math.inf, 0.0, 0.0)

    def look(self, now: float) -> tuple[float, float]:
        """The share that is done, 0 to 1, and the seconds that are left. Running jobs are asked every few seconds."""
        if now - self.looked[0] >= LOOK_SECONDS:
            left = self._left(now)
            self.least = min(self.least, left)
            done = self.total - self.least
            self.slowness = (now - self.began + PRIOR_SECONDS) / (done + PRIOR_SECONDS)
            self.looked = now, done / self.total if self.total else 1.0, left * self.slowness
        at, share, left = self.looked
        return share, max(0.0, left - (now - at))

    def _left(self, now: float) -> float:
        """Guessed seconds until all is done, with nothing in the way."""
        left = {job: self._left_of(self.jobs[job], now) for job in self.open}
        on_gpu = sum(left[job] for job in self.open if self.jobs[job].on_gpu)
        chain = max((left[job] + self.after[job] for job in self.open), default=0.0)
        return max(sum(left.values()) / self.cores, on_gpu / self.gpus, chain)

    def _left_of(self, job: Job, now: float) -> float:
        if job.id not in self.running:
            return job.seconds
        if job.share is not None:
            return job.seconds * (1 - job.share())
        # A job that takes longer than was guessed takes longer yet.
        for_now = (now - self.running[job.id]) / self.slowness
        return max(job.seconds - for_now, OVERTIME * for_now)

    def _with_waiting(self, job: int) -> set[int]:
        found, left = set(), [job]
        while left:
            if (one := left.pop()) not in found:
                found.add(one)
                left += self.waiting[one]
        return found

    def _chains(self) -> dict[int, float]:
        """By job: the seconds of the longest chain of jobs that wait for it."""
        n_waiting = {job: len(waiting) for job, waiting in self.waiting.items()}
        after = dict.fromkeys(self.jobs, 0.0)
        ready = [job for job, n in n_waiting.items() if not n]
        while ready:
            job = self.jobs[ready.pop()]
            for need in job.needs:
                after[need] = max(after[need], after[job.id] + job.seconds)
                n_waiting[need] -= 1
                if not n_waiting[need]:
                    ready.append(need)
        return after


def duration(seconds: float, coarse: bool = False) -> str:
    """Seconds in words; coarse: as exact as a guess is."""
    if coarse and seconds >= 90:
        seconds = 60 * round(seconds / 60)
    elif coarse:
        seconds = 5 * math.ceil(seconds / 5)
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    if minutes and not coarse:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes} min" if minutes and not rest else f"{60 * minutes + rest} s"
