"""What a call asks for, checked before any work starts: everything that can be refused has been."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastxai.config import check_int
from fastxai.engine import Engine
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.explainers import Explainer, as_explainers
from fastxai.images import Source, open_source
from fastxai.models import Model, Session, calibrate
from fastxai.overlap import Asked
from fastxai.packing import BUDGETS, bytes_in_work, images_in_work
from fastxai.targets import Targets, parse_targets
from fastxai.types import Settings


@dataclass(frozen=True)
class Plan:
    """A model, the pictures, and what is done to them.

    explainers are settled; layers: what predictions record; row_counts: rows an image by probe kind, of each explainer;
    injected: the first layer whose output is replaced in rows of that kind.
    """

    model: Model
    source: Source
    explainers: tuple[Explainer, ...]
    targets: Targets
    layers: tuple[str, ...]
    row_counts: tuple[Mapping[str, int], ...]
    injected: str
    seed: int

    @classmethod
    def prepare(
        cls, model: Model, images: Any, explainers: Any, targets: Any, seed: int, labels: Any, normalized: bool
    ) -> Plan:
        """Check arguments as `explain` takes them; `ArgumentError` for what cannot be."""
        if not isinstance(model, Model):
            raise ArgumentTypeError(f"model must be a fastxai Model (see load_model), got {type(model).__name__}")
        check_int("seed", seed, 0, 2**32 - 1)
        found = as_explainers(explainers)
        source = open_source(images, labels=labels, normalized=normalized)
        ids = source.ids
        settled = tuple(explainer.settle(model.preprocess, ids) for explainer in found)
        # One short session finds what only a running model knows, so that a wrong layer or target is refused now.
        with model.open(Settings(device=str(model.device))) as session:
            rule = parse_targets(targets, classes=session.classes_out, ids=ids)
            for explainer in settled:
                explainer.check_targets(rule.count)
            of_each = [explainer.layers(session) for explainer in settled]
            counts = tuple(explainer.expected_rows(rule.count, session) for explainer in settled)
        layers = tuple(dict.fromkeys(layer for found in of_each for layer in found))
        injected = next((found[0] for found, rows in zip(of_each, counts, strict=True) if rows.get("injected")), "")
        return cls(model, source, settled, rule, layers, counts, injected, seed)

    def only(self, take: Callable[[str], bool]) -> Plan:
        """The plan for the pictures whose ids `take` takes."""
        return replace(self, source=self.source.only(take))

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows an image by probe kind, beside the prediction pass."""
        rows: dict[str, int] = {}
        for counts in self.row_counts:
            for kind, count in counts.items():
                rows[kind] = rows.get(kind, 0) + count
        return {kind: count for kind, count in rows.items() if count}

    def calibrate(self, images: int, threads: int | None = None) -> Settings:
        """Settings for a process that explains `images` pictures with that many threads (None: as found)."""
        kinds = {"predict": images} | {kind: count * images for kind, count in self.rows.items()}
        return calibrate(
            self.model,
            kinds=kinds,
            targets=self.targets.count,
            layers=self.layers,
            injected=self.injected,
            threads=threads,
        )

    def engine(self, session: Session, asked: Asked = lambda: False) -> Engine:
        """The engine that does it, in an open session; asked: whether it is to stop."""
        for kind in ("predict", *self.rows):
            if kind not in session.settings.rows:
                raise ArgumentError(f"settings must have rows of {kind!r}, got {dict(session.settings.rows)}")
        return Engine(session, self.explainers, self.targets, self.seed, asked=asked)

    def batch_for(self, engine: Engine) -> int:
        """Images in work together, as chunks and memory suggest."""
        session, count = engine.session, self.targets.count
        return images_in_work(
            self.row_counts,
            session.settings.rows,
            targets=count,
            images=len(self.source),
            bytes_per_image=bytes_in_work(
                self.explainers,
                self.model.preprocess,
                targets=count,
                classes=session.classes_out,
                layers=len(self.layers),
                normalized=self.source.normalized,
            ),
            budget=BUDGETS[session.device.type],
            lanes=session.settings.lanes,
        )
