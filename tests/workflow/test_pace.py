"""How far a call is and how long the rest takes, by jobs made up here."""

from __future__ import annotations

import pytest

from nsbench.workflow.pace import OVERTIME, Job, Pace, duration


def test_what_is_left_is_bounded_by_cores_by_gpus_and_by_the_longest_chain() -> None:
    alone = [Job(number, 10.0) for number in range(8)]
    assert Pace(alone, cores=1, gpus=1, began=0.0).total == 80
    assert Pace(alone, cores=4, gpus=1, began=0.0).total == 20
    on_gpu = [Job(number, 10.0, on_gpu=True) for number in range(8)]
    assert Pace(on_gpu, cores=16, gpus=2, began=0.0).total == 40
    chain = [Job(number, 10.0, needs=(number - 1,) if number else ()) for number in range(8)]
    assert Pace(chain, cores=16, gpus=1, began=0.0).total == 80
    # Two that may run beside each other, and one that waits for both.
    assert Pace([Job(0, 5.0), Job(1, 9.0), Job(2, 1.0, needs=(0, 1))], cores=2, gpus=1, began=0.0).total == 10
    assert Pace([], cores=2, gpus=1, began=0.0).look(5.0) == (1.0, 0.0)


def test_the_share_counts_all_work_and_never_falls() -> None:
    pace = Pace([Job(0, 10.0), Job(1, 30.0)], cores=1, gpus=1, began=0.0)
    assert pace.look(0.0)[0] == 0
    pace.start(0, 0.0)
    half, left = pace.look(5.0)
    assert half == pytest.approx(5 / 40, abs=0.03)
    assert left == pytest.approx(35, abs=1)
    # Four times as long as guessed: nothing is said to be done twice, and it is expected to take longer yet.
    shares = [pace.look(now)[0] for now in range(6, 40)]
    assert shares == sorted(shares)
    assert max(shares) < 10 / 40
    pace.finish(0, 40.0)
    share, left = pace.look(40.0)
    assert share == 10 / 40
    assert 30 < left < 4 * 30  # the guess counts for something yet
    assert (pace.n_done, pace.n_jobs) == (1, 2)
    pace.start(1, 40.0)
    pace.finish(1, 60.0)
    assert pace.look(60.0) == (1.0, 0.0)


def test_the_time_left_does_not_rise_while_work_goes_on_at_the_guessed_pace() -> None:
    pace = Pace([Job(number, 10.0, (number - 1,) if number % 5 else ()) for number in range(20)], 2, 1, began=0.0)
    left = []
    for now in range(0, 100, 10):
        for number in {now // 10, now // 10 + 10}:
            pace.start(number, float(now))
        left += [pace.look(now + beside)[1] for beside in (1.0, 4.0, 9.0)]
        for number in {now // 10, now // 10 + 10}:
            pace.finish(number, now + 10.0)
    assert left == sorted(left, reverse=True)
    assert left[0] == pytest.approx(99, abs=2)
    assert left[-1] == pytest.approx(1, abs=1)


def test_a_job_that_tells_its_share_is_believed_and_asked_now_and_then() -> None:
    asked = []

    def share() -> float:
        asked.append(1)
        return 0.25

    pace = Pace([Job(0, 100.0, share=share)], cores=1, gpus=1, began=0.0)
    pace.start(0, 0.0)
    assert [pace.look(now)[0] for now in (10.0, 11.0, 12.0)] == [0.25] * 3
    assert len(asked) == 1
    left = [pace.look(now)[1] for now in (10.0, 11.0, 12.0)]
    assert left == pytest.approx([left[0], left[0] - 1, left[0] - 2])


def test_what_waits_for_a_job_that_failed_is_not_left_until_that_begins_again() -> None:
    pace = Pace([Job(0, 10.0), Job(1, 50.0, needs=(0,)), Job(2, 30.0)], cores=1, gpus=1, began=0.0)
    pace.start(0, 0.0)
    pace.stop(0, 0.0)
    assert pace.look(0.0) == (0, 30)
    pace.start(0, 0.0)
    assert pace.look(0.0) == (0, 90)
    pace.finish(0, 10.0)
    assert pace.look(10.0) == (10 / 90, 80)


def test_a_job_that_is_due_takes_a_part_of_its_time_longer() -> None:
    pace = Pace([Job(0, 10.0)], cores=1, gpus=1, began=0.0)
    pace.start(0, 0.0)
    pace.look(100.0)
    assert OVERTIME * 20 < pace.look(200.0)[1] < 200


@pytest.mark.parametrize(
    ("seconds", "exact", "coarse"),
    [
        (0.2, "0 s", "5 s"),
        (14.4, "14 s", "15 s"),
        (60, "1 min 00 s", "1 min"),
        (83, "1 min 23 s", "85 s"),
        (200, "3 min 20 s", "3 min"),
        (7265, "2 h 01 min", "2 h 01 min"),
    ],
)
def test_durations_in_words(seconds: float, exact: str, coarse: str) -> None:
    assert (duration(seconds), duration(seconds, coarse=True)) == (exact, coarse)
