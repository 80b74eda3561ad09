"""What a job says of its progress where nobody sees bars."""

import re

import pytest

from reid_mtda import console


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    assert not console.console.is_terminal
    return now


def test_a_log_gets_a_line_each_half_minute_with_the_time_left(clock, capsys):
    with console.Bars() as bars:
        for done in range(1, 101):
            clock[0] += 2
            bars("student", done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7 and lines[-1] == "student: 100 of 100, 198 s"
    done, took, left = map(int, re.fullmatch(r"student: (\d+) of 100, (\d+) s, about (\d+) s left", lines[0]).groups())
    assert (done, took, left) == (15, 28, 170)


def test_a_job_that_goes_on_is_timed_from_where_it_goes_on(clock, capsys):
    with console.Bars() as bars:
        for done in range(500, 531):
            bars("student", done, 1000)
            clock[0] += 3
    assert capsys.readouterr().err.splitlines()[0] == "student: 510 of 1000, 30 s, about 1470 s left"


def test_a_second_part_of_one_name_is_timed_on_its_own(clock, capsys):
    with console.Bars() as bars:
        for done in range(1, 41):
            bars("teacher gate", done, 40)
            clock[0] += 1
        clock[0] += 1000
        for done in range(1, 21):
            bars("teacher gate", done, 40)
            clock[0] += 2
    *_, last = capsys.readouterr().err.splitlines()
    done, left = map(int, re.fullmatch(r"teacher gate: (\d+) of 40, \d+ s, about (\d+) s left", last).groups())
    assert left == 2 * (40 - done)


def test_short_jobs_say_nothing_in_a_log(clock, capsys):
    with console.Bars() as bars:
        for part in ("gate", "plaza"):
            for done in range(11):
                clock[0] += 1
                bars(part, done, 10)
    assert capsys.readouterr().err == ""


def test_a_part_without_a_known_end_is_no_division_by_zero(clock, capsys):
    with console.Bars() as bars:
        for done in range(3):
            clock[0] += 40
            bars("harvest gate", 0 if done == 0 else 7 * done, 0)
    assert capsys.readouterr().err.splitlines() == [
        "harvest gate: 0 of 0, 0 s", "harvest gate: 7 of 7, 40 s", "harvest gate: 14 of 14, 80 s",
    ]  # fmt: skip
