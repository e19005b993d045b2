"""The long run: what the model says of many coalitions of a picture, read once and kept compactly."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import fastxai as fx
from fastxai import ops, sampling
from fastxai.models import Model, Scores, Session, calibrate
from fastxai.types import Settings

LIME_ROWS, SHAP_ROWS = 21_001, 20_002
_LONG = 450_000  # rows of the whole run, for calibration
_SEED = 2**20  # of the long run


@dataclass(frozen=True)
class PeerShap:
    """Shapley values by `shap.KernelExplainer`, of one seed: with its default `l1_reg` and without, float64 [S]."""

    calls: int
    default: np.ndarray
    without: np.ndarray


@dataclass(frozen=True)
class Readings:
    """Of one picture and class: coalitions bool [n, S], values float64 [n]. Those of LIME, those of KernelSHAP."""

    name: str
    segments: int
    lime: tuple[Tensor, Tensor]
    shap: tuple[Tensor, Tensor]
    peers: tuple[PeerShap, ...]

    @classmethod
    def load(cls, file: Path) -> Readings:
        """From a file that `save` wrote."""
        with np.load(file, allow_pickle=False) as data:
            segments = int(data["segments"])
            lime, shap = coalitions(segments)
            if str(data["coalitions"]) != _digest(lime, shap):
                raise SystemExit(f"{file} was read with another sampler's coalitions: remove it to have it read again")
            peers = [
                PeerShap(*one) for one in zip(data["calls"].tolist(), data["default"], data["without"], strict=True)
            ]
            values = (torch.from_numpy(data[name]).double() for name in ("lime", "shap"))
            return cls(str(data["name"]), segments, (lime, next(values)), (shap, next(values)), tuple(peers))

    def save(self, file: Path) -> None:
        """float32 scores, compressed; whole or not at all. The coalitions follow from the number of segments."""
        arrays: dict[str, object] = {"name": self.name, "segments": self.segments}
        arrays["coalitions"] = _digest(self.lime[0], self.shap[0])
        arrays |= {name: getattr(self, name)[1].float().numpy() for name in ("lime", "shap")}
        arrays["calls"] = [peer.calls for peer in self.peers]
        arrays["default"] = np.stack([peer.default for peer in self.peers])
        arrays["without"] = np.stack([peer.without for peer in self.peers])
        part = file.with_suffix(".part.npz")
        np.savez_compressed(part, **arrays)
        part.rename(file)


def coalitions(segments: int) -> tuple[Tensor, Tensor]:
    """Of the long runs, bool [n, S]: LIME's, all segments and pairs; KernelSHAP's, all, none and pairs."""
    counts, keys = torch.tensor([segments]), sampling.stream_keys(_SEED, ["00" * 16], "lime")
    every = torch.arange(LIME_ROWS)
    lime = ops.unpack(sampling.paired_coalitions(keys, counts, torch.zeros_like(every), every), segments)
    shap = ops.unpack(sampling.shapley_coalitions(keys, counts, SHAP_ROWS)[0][0], segments)
    return lime.bool(), shap.bool()


def _digest(*kept: Tensor) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in kept:
        digest.update(np.packbits(part.numpy(), axis=1).tobytes())
    return digest.hexdigest()


class Game:
    """The scores of one class of one picture by the coalition of segments kept: bool [n, S] -> float32 [n]."""

    def __init__(self, session: Session, picture: Tensor, labels: Tensor, target: int) -> None:
        self.session, self.picture, self.labels = session, picture[None], labels[None]
        self.rows = session.settings.rows["scores"]
        self.targets = torch.full((self.rows, 1), target)
        self.probe, self.calls, self.seconds = Scores("probability"), 0, 0.0

    def __call__(self, kept: Tensor) -> Tensor:
        """In chunks of one size, the last one filled up."""
        start, preprocess = time.perf_counter(), self.session.model.preprocess
        words = sampling.pack(torch.cat([kept, kept[:1].expand(-len(kept) % self.rows, -1)]))
        found = []
        for chunk in words.split(self.rows):
            inputs = ops.compose_rows(
                self.picture,
                self.labels,
                chunk,
                torch.zeros(self.rows, dtype=torch.int64),
                torch.zeros(preprocess.channels),
                mean=preprocess.mean,
                std=preprocess.std,
                dtype=self.session.dtype,
            )
            found.append(self.session.read(self.probe, inputs, self.targets).scores[:, 0])
        self.calls += len(kept)
        self.seconds += time.perf_counter() - start
        return torch.cat(found)[: len(kept)]


def read_all(images: Sequence[str], spec: str, folder: Path, threads: int | None, peer_seeds: int) -> list[Path]:
    """The readings' files, one for each picture that could be read; those that are missing are made."""
    folder.mkdir(parents=True, exist_ok=True)
    model = fx.load_model(spec)
    settings = _settings(model, folder, threads)
    found = fx.explain(model, list(images), fx.Lime(samples=2), settings=settings)
    for name, reason in found.failures.items():
        print(f"{name}: {reason}", file=sys.stderr)
    files = []
    with model.open(settings) as session:
        for i, name in enumerate(found.ids):
            if name in found.failures:
                continue
            files.append(folder / f"{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}.npz")
            if not files[-1].exists():
                game = Game(session, found.images[i], found["lime"].segments[i], int(found.predictions[i, 0]))
                _read(game, name, peer_seeds).save(files[-1])
                print(
                    f"{name}: {game.calls} rows, {game.calls / game.seconds:.0f} a second", file=sys.stderr, flush=True
                )
    return files


def _settings(model: Model, folder: Path, threads: int | None) -> Settings:
    """Calibrated once: all readings in a folder are of one form of the model."""
    file = folder / "settings.json"
    if not file.exists():
        made = calibrate(model, kinds={"scores": _LONG}, threads=threads)
        told = {"fingerprint": model.fingerprint, **dataclasses.asdict(made)}
        file.write_text(json.dumps(told, indent=1), encoding="utf-8")
        return made
    told = json.loads(file.read_text(encoding="utf-8"))
    if told.pop("fingerprint") != model.fingerprint:
        raise SystemExit(f"{folder} holds readings of another model: name another folder")
    return Settings(**{**told, "compile": tuple(told["compile"])})


def _read(game: Game, name: str, peer_seeds: int) -> Readings:
    segments = int(game.labels.max()) + 1
    lime, shap = coalitions(segments)
    peers = tuple(_peer(game, segments, seed) for seed in range(peer_seeds))
    return Readings(name, segments, (lime, game(lime).double()), (shap, game(shap).double()), peers)


def _peer(game: Game, segments: int, seed: int) -> PeerShap:
    """Twice by `shap.KernelExplainer`, which draws the same rows for the same seed: read once, remembered."""
    import shap

    known: dict[bytes, float] = {}

    def model(rows: np.ndarray) -> np.ndarray:
        bits = np.ascontiguousarray(rows > 0.5)
        new = {row.tobytes(): row for row in bits if row.tobytes() not in known}
        if new:
            scores = game(torch.from_numpy(np.stack(list(new.values()))))
            known.update(zip(new, scores.tolist(), strict=True))
        return np.array([known[row.tobytes()] for row in bits])

    values = []
    for l1_reg in ("auto", 0):
        np.random.seed(seed)  # shap draws from the global state
        explainer = shap.KernelExplainer(model, np.zeros((1, segments)), silent=True)
        options = {} if l1_reg == "auto" else {"l1_reg": l1_reg}
        values.append(np.asarray(explainer.shap_values(np.ones((1, segments)), silent=True, **options)).reshape(-1))
    return PeerShap(2 * segments + 2048, *values)
