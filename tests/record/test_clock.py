from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deit_fast.record.clock import KINDS, Clock

# a program for the clock: wait, switch to a kind, or do a whole program inside a block of a kind
Program = list[tuple[str, object]]
waits = st.tuples(st.just("wait"), st.integers(0, 10**6))
switches = st.tuples(st.just("switch"), st.sampled_from(KINDS))
programs = st.recursive(
    st.lists(st.one_of(waits, switches), max_size=6),
    lambda inner: st.lists(
        st.one_of(waits, switches, st.tuples(st.sampled_from(["during", "raise"]), st.tuples(st.sampled_from(KINDS), inner))),
        max_size=6,
    ),
    max_leaves=12,
)


class Hand:
    """A clock's hand that moves when told, in whole seconds, so that sums of floats are exact."""

    def __init__(self) -> None:
        self.moment = 0.0

    def __call__(self) -> float:
        return self.moment


def play(program: Program, clock: Clock, hand: Hand, kind: str, expected: dict[str, float]) -> str:
    """Runs a program on the clock and on a plain tally; gives the kind in which the tally ends."""
    for action, what in program:
        if action == "wait":
            assert isinstance(what, int)
            hand.moment += what
            expected[kind] += what
        elif action == "switch":
            assert isinstance(what, str)
            clock.switch(what)
            kind = what
        else:
            assert isinstance(what, tuple)
            inner_kind, inner = what
            try:
                with clock.during(inner_kind):
                    play(inner, clock, hand, inner_kind, expected)
                    if action == "raise":
                        raise KeyError
            except KeyError:
                assert action == "raise"
        assert clock.kind == kind
        assert clock.seconds() == expected
    return kind


@given(programs)
def test_kinds_sum_to_wall_time_and_each_gets_its_own(program: Program) -> None:
    hand = Hand()
    clock = Clock(started=0.0, now=hand)
    expected = dict.fromkeys(KINDS, 0.0)
    play(program, clock, hand, "setup", expected)
    assert sum(clock.seconds().values()) == clock.wall_seconds == hand.moment


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.floats(1e-7, 1e5)), max_size=200))
def test_kinds_sum_to_wall_time_for_any_lengths(waits: list[tuple[str, float]]) -> None:
    hand = Hand()
    clock = Clock(started=0.0, now=hand)
    for kind, seconds in waits:
        clock.switch(kind)
        hand.moment += seconds
    assert sum(clock.seconds().values()) == pytest.approx(clock.wall_seconds, rel=1e-12, abs=1e-12)


def test_time_before_the_clock_counts_as_setup() -> None:
    hand = Hand()
    hand.moment = 100.0
    clock = Clock(started=93.0, now=hand)
    assert clock.seconds()["setup"] == clock.wall_seconds == 7.0


def test_earlier_sessions_are_kept_apart() -> None:
    hand = Hand()
    clock = Clock(started=0.0, now=hand, earlier={"setup": 3.0, "compute": 10.0})
    clock.add_earlier({"compute": 5.0})
    hand.moment = 2.0
    assert clock.seconds()["compute"] == 0.0
    assert clock.wall_seconds == 2.0
    assert clock.total_seconds() == {**dict.fromkeys(KINDS, 0.0), "setup": 5.0, "compute": 15.0}


def test_unknown_kind_changes_nothing() -> None:
    hand = Hand()
    clock = Clock(started=0.0, now=hand)
    with pytest.raises(ValueError, match="kind='lunch': want one of setup, compile"):
        clock.switch("lunch")
    with pytest.raises(ValueError, match="kind='lunch'"), clock.during("lunch"):
        pytest.fail("the block must not be entered")
    with pytest.raises(ValueError, match="kind='lunch'"):
        clock.add_earlier({"lunch": 1.0})
    assert clock.kind == "setup"
    assert clock.total_seconds() == dict.fromkeys(KINDS, 0.0)


def test_wall_time_of_a_process_against_a_measurement_from_outside() -> None:
    program = """
import json, sys, time
time.sleep(0.6)
from deit_fast.record.clock import Clock
clock = Clock()
clock.switch("data_wait")
time.sleep(0.2)
with clock.during("compute"):
    time.sleep(0.3)
print(json.dumps([clock.wall_seconds, clock.seconds()]), flush=True)
"""
    before = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        outside = time.perf_counter() - before
    wall, seconds = json.loads(line)
    tick = 0.02  # the creation of a process is known in hundredths of a second
    assert seconds["setup"] >= 0.6 - tick
    assert seconds["data_wait"] >= 0.2
    assert seconds["compute"] >= 0.3
    assert wall <= outside + tick
    assert wall >= outside - 2.0  # starting a process and reading its line, on a machine that does other things too
    assert sum(seconds.values()) == pytest.approx(wall, abs=0.5)
