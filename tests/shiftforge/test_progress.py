import io

import pytest

from shiftforge.progress import SILENT, Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3600, "1 h 00 min"),
        (7380, "2 h 03 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_step_times_success_only():
    out, clock = io.StringIO(), Clock()
    progress = Progress(out, clock)
    with progress.step("build"):
        clock.now += 2.5
    with pytest.raises(ZeroDivisionError), progress.step("bad"):
        raise ZeroDivisionError
    assert out.getvalue() == "build ...\nbuild: 2.5 s\nbad ...\n"


def test_bar_in_a_log_prints_at_most_every_ten_seconds():
    out, clock = io.StringIO(), Clock()
    with Progress(out, clock).bar("rows", 100) as advance:
        for _ in range(100):
            clock.now += 0.25
            advance(1)
    assert out.getvalue() == "rows: 40 %, 15.0 s left\nrows: 80 %, 5.0 s left\nrows: 25.0 s\n"


def test_bar_on_a_terminal_rewrites_one_line():
    out, clock = Terminal(), Clock()
    with Progress(out, clock).bar("rows", 4) as advance:
        for _ in range(4):
            clock.now += 1
            advance(1)
    clear = "\r\x1b[2K"
    assert out.getvalue() == (
        f"{clear}rows: 25 %, 3.0 s left{clear}rows: 50 %, 2.0 s left{clear}rows: 75 %, 1.0 s left{clear}rows: 4.0 s\n"
    )


def test_default_is_standard_error_and_silent_is_silent(capsys):
    Progress().say("hello")
    with SILENT.step("x"), SILENT.bar("y", 3) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "hello\n")
