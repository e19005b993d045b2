"""Who takes a turn when, and what becomes of the times."""

from __future__ import annotations

import pytest

from fastxai.bench.peer_turns import PeerTurn
from fastxai.bench.turns import Times, take_turns


def test_everything_takes_its_turn_round_after_round():
    order = []

    def turn(name, times):
        def call():
            order.append(name)
            return times.pop(0)

        return name, call

    limit = turn("limit", [1.0, 3.0, 2.0, 8.0])
    turns = [limit, turn("fastxai", [4.0, 6.0]), limit, turn("lime", [40.0, 20.0])]
    told = []
    times, failed = take_turns(turns, 2, lambda *what: told.append(what))
    assert order == ["limit", "fastxai", "limit", "lime"] * 2
    assert times == {"limit": Times((1.0, 3.0, 2.0, 8.0)), "fastxai": Times((4.0, 6.0)), "lime": Times((40.0, 20.0))}
    assert {name: t.seconds for name, t in times.items()} == {"limit": 2.5, "fastxai": 5.0, "lime": 30.0}
    assert failed == {}
    assert told[3:5] == [(0, "lime", 40.0), (1, "limit", 2.0)]


def test_a_peer_that_fails_ends_its_own_turns_only():
    calls = []

    def broken():
        calls.append(1)
        raise KeyError("of its\nown")

    times, failed = take_turns([("fastxai", lambda: 1.0), ("shap", broken), ("captum", lambda: 2.0)], 3)
    assert calls == [1]
    assert set(times) == {"fastxai", "captum"}
    assert list(failed) == ["shap"]
    assert "\n" not in failed["shap"]


@pytest.mark.parametrize("name", ["limit", "fastxai", "fastxai in memory"])
def test_our_own_failure_is_an_error(name):
    def broken():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        take_turns([(name, broken)], 1)


class Clock:
    """Time that passes only where `works` says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def works(self, seconds, answer):
        def explain(index):
            self.now += seconds
            return answer(index)

        return explain


def test_a_slow_peer_does_one_picture_a_turn_and_goes_on_from_there():
    clock = Clock()
    turn = PeerTurn(clock.works(30.0, lambda index: {index: index}), 4, seconds=20.0, keep=2, clock=clock)
    assert [turn(), turn(), turn()] == [30.0, 30.0, 30.0]
    assert turn.done == 3
    assert turn.answers == [{0: 0}, {1: 1}]  # the third picture was explained, but nobody compares it


def test_a_fast_peer_does_all_pictures_once_a_turn():
    clock = Clock()
    turn = PeerTurn(clock.works(0.5, lambda index: {}), 4, seconds=20.0, keep=6, clock=clock)
    assert turn() == 0.5
    assert turn.done == 4
    assert len(turn.answers) == 6


def test_a_turn_ends_when_its_seconds_are_over():
    clock = Clock()
    turn = PeerTurn(clock.works(0.75, lambda index: {}), 100, seconds=2.0, keep=0, clock=clock)
    assert turn() == 0.75
    assert turn.done == 3
