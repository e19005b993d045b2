"""What `explain` is asked for, as plain data: it travels to other processes, where it is done for one share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastxai.distributed.sharding import Share, run_share
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS, Explainer, as_explainers
from fastxai.images import Source, open_source
from fastxai.models import Model, load_model
from fastxai.pipeline import begin, run
from fastxai.pipeline.tally import OnProgress
from fastxai.store import Manifest, Run


@dataclass(frozen=True)
class Job:
    """Everything a process needs to explain images into a run; only paths and options, no pictures and no weights.

    images: paths as `open_source` takes them, or the `package.module:name` of a data set, whose items are fetched by
    `loaders` processes. explainers: each as text (`lime:samples=500`) or as `Config.to_dict` gives it. model, weights,
    device, precision, compile, fold: as for `load_model`. The others are those of `fastxai.run`. Relative paths mean
    those of the process that does the job.
    """

    images: tuple[str, ...]
    out: str
    explainers: tuple[str | Mapping[str, Any], ...]
    model: str = "embedded"
    weights: str | None = None
    device: str = "auto"
    precision: str = "auto"
    compile: bool | str = "auto"
    fold: bool = True
    targets: str | int = "top1"
    seed: int = 0
    batch: int | None = None
    shard_images: int = 256
    shard_seconds: float = 60.0
    pixels: bool = True
    store: str = "full"
    resume: bool = False
    retry_failed: bool = False
    loaders: int = 0

    def to_json(self) -> str:
        """The job in one line of ASCII."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Job:
        """The job that `to_json` wrote; `ArgumentError` for any other text."""
        try:
            data = json.loads(text)
            return Job(**{**data, "images": tuple(data["images"]), "explainers": tuple(data["explainers"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ArgumentError(f"job must be the JSON of a Job, got {text[:80]!r}: {error}") from error

    def open_source(self) -> Source:
        """The pictures, not yet read."""
        return open_source(list(self.images), workers=self.loaders)

    def build_explainers(self) -> tuple[Explainer, ...]:
        """The explainers that the job describes."""
        return as_explainers(
            [EXPLAINERS.from_dict(one) if isinstance(one, Mapping) else one for one in self.explainers]
        )

    def load_model(self) -> Model:
        """The model, on the device that the job names."""
        return load_model(
            self.model,
            weights=self.weights,
            device=self.device,
            precision=self.precision,
            compile=self.compile,
            fold=self.fold,
        )

    def begin(self, workers: int, *, threads: int | None = None, model: Model | None = None) -> Manifest:
        """Begin the run for `workers` processes that share the job, or join it.

        threads: of torch in each, None for its part of those found. model: the job's, if it is loaded.
        """
        return begin(
            model or self.load_model(),
            self.open_source(),
            self.build_explainers(),
            out=self.out,
            resume=self.resume,
            targets=self.targets,
            seed=self.seed,
            pixels=self.pixels,
            store=self.store,
            workers=workers,
            threads=threads,
        )

    def run(
        self,
        share: Share | None = None,
        *,
        model: Model | None = None,
        progress: OnProgress | None = None,
        stop: Any = None,
    ) -> Run:
        """Do the job, or one share of it, which joins a run that is there. model: the job's, if it is loaded."""
        source, explainers = self.open_source(), self.build_explainers()
        options = {
            "targets": self.targets,
            "seed": self.seed,
            "batch": self.batch,
            "shard_images": self.shard_images,
            "shard_seconds": self.shard_seconds,
            "pixels": self.pixels,
            "store": self.store,
            "retry_failed": self.retry_failed,
            "progress": progress,
            "stop": stop,
        }
        model = model or self.load_model()
        if share is None:
            return run(model, source, explainers, out=self.out, resume=self.resume, **options)
        return run_share(model, source, explainers, out=self.out, share=share, **options)
