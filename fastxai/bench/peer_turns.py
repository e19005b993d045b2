"""Turns of the peers, in the surroundings that their users have."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch

from fastxai.bench.cases import Case
from fastxai.bench.options import Options
from fastxai.bench.peers import PEERS, Answer, Peer, Subject
from fastxai.bench.turns import describe_error

Clock = Callable[[], float]
Switches = dict[str, Any]


def peers_of(case: Case, options: Options) -> list[Peer]:
    """The peers asked for that do what the case's method does."""
    return [PEERS[name] for name in options.peers if PEERS[name].method == case.explainer.method]


class PeerTurn:
    """A peer's turn: it goes on through the pictures where its last turn ended, until its seconds are over."""

    def __init__(
        self, explain: Callable[[int], Answer], images: int, seconds: float, keep: int, clock: Clock = time.perf_counter
    ) -> None:
        """images: how many pictures there are; seconds: of a turn. Answers to the first `keep` of them are kept."""
        self.explain, self.images, self.seconds, self.clock = explain, images, seconds, clock
        self.done = 0
        self.answers: list[Answer] = [{} for _ in range(keep)]  # {}: no turn reached that picture

    def __call__(self) -> float:
        count = 0
        start = now = self.clock()
        while count == 0 or (count < self.images and now - start < self.seconds):
            index = self.done % self.images
            answer = self.explain(index)
            if index < len(self.answers):
                self.answers[index] = answer
            self.done += 1
            count += 1
            now = self.clock()
        return (now - start) / count


def prepare_peers(
    options: Options, case: Case, subject: Subject, found: Switches, say: Callable[[str], None]
) -> tuple[list[tuple[Peer, PeerTurn]], dict[str, str]]:
    """Turns of the installed peers after a short warm-up, and the reasons of those that cannot work."""
    ready: list[tuple[Peer, PeerTurn]] = []
    broken: dict[str, str] = {}
    for peer in peers_of(case, options):
        if not peer.installed:
            say(f"{peer.name}: not installed")
            continue
        try:
            with _as_users_do(found):
                peer.prepare(_short(subject))(0)
                explain = peer.prepare(subject)
        except Exception as error:  # somebody else's code: its trouble is a line of the record
            broken[peer.name] = describe_error(error)
            say(f"{peer.name}: {broken[peer.name]}")
            continue

        def call(index: int, explain: Callable[[int], Answer] = explain) -> Answer:
            with _as_users_do(found):
                return explain(index)

        ready.append((peer, PeerTurn(call, len(subject.pixels), options.peer_seconds, options.compared)))
    return ready, broken


def _short(subject: Subject) -> Subject:
    """The same with ten samples: enough to load and warm everything."""
    explainer = subject.explainer
    if getattr(explainer, "samples", 0) > 10:
        explainer = dataclasses.replace(explainer, samples=10)  # type: ignore[call-arg]
    return dataclasses.replace(subject, explainer=explainer)


def switches() -> Switches:
    """How torch computes float32 before any session of ours is open."""
    return {"matmul": torch.get_float32_matmul_precision(), "cudnn": torch.backends.cudnn.allow_tf32}


@contextmanager
def _as_users_do(found: Switches) -> Iterator[None]:
    """torch's float32 switches as found, no warnings, no progress bars."""
    ours = switches()

    def put(values: Switches) -> None:
        torch.set_float32_matmul_precision(values["matmul"])
        torch.backends.cudnn.allow_tf32 = values["cudnn"]

    put(found)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        put(ours)
