"""`Session`: a model at work, from opening to closing, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.heap import freed_memory_kept
from fastxai.models.compiling import compile_scores
from fastxai.models.device import check_compiler, exact_float32
from fastxai.models.lanes import LANE_KINDS, InTurn, Work
from fastxai.models.layouts import Layout
from fastxai.models.lookup import LayerLookup
from fastxai.models.probes import (
    DirectionalDerivatives,
    InjectedScores,
    InputGradients,
    Prediction,
    Probe,
    Reading,
    Scores,
)
from fastxai.models.readers import DerivativeReader, GradientReader, InjectedReader, Predictor, ScoreReader
from fastxai.models.runner import Runner
from fastxai.types import Settings

if TYPE_CHECKING:
    from fastxai.models.model import Model


class Session:
    """A private copy of a model, frozen, in evaluation mode, on its device and in its precision.

        with model.open(settings) as session:
            reading = session.read(Scores(), inputs, targets)

    `dtype`: what inputs should have (others are converted). `classes_out`: scores a row. While it is open, float32
    products are exact (no TF32), torch uses `settings.threads` threads if that is not 0, and on a CPU the process keeps
    what memory it frees.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self._runner = Runner(model, settings)
        self.device, self.dtype = self._runner.device, self._runner.dtype
        self._stack, self._surroundings = ExitStack(), ExitStack()
        self._renew()

    def _renew(self) -> None:
        """Nothing found or compiled yet."""
        self._lookup = LayerLookup(self._runner)
        self._predictor = Predictor(self._runner, self._lookup)
        self._scores = ScoreReader(self._runner)
        self._gradients = GradientReader(self._runner)
        self._derivatives = DerivativeReader(self._runner)
        self._injected = InjectedReader(self._runner, self._lookup)

    def __enter__(self) -> Session:
        runner, settings = self._runner, self.settings
        with ExitStack() as stack:
            stack.callback(self.rest)
            self.wake()
            stack.callback(self._renew)
            stack.callback(runner.unload)
            runner.load()
            if settings.fold:
                self._lookup.before_folding()
                runner.fold()
            runner.lower()
            if settings.lanes > 1:
                runner.open_lanes(settings.lanes, settings.threads or torch.get_num_threads())
            if settings.compile:
                check_compiler(self.device)
                self._compile()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _compile(self) -> None:
        """What has one shape only. The rest is compiled when its shape is met."""
        kinds = {"scores", "predict"} & set(self.settings.compile)
        if kinds:
            compiled = compile_scores(self._runner.module, self.device)
            if "predict" in kinds:
                self._predictor = Predictor(self._runner, self._lookup, compiled)
            if "scores" in kinds:
                self._scores = ScoreReader(self._runner, compiled)
                with self.at_work("scores") as work:
                    self._scores.compile(self.settings.rows["scores"], work)

    def wake(self) -> None:
        """Set what work needs in the whole process: exact float32 products, `settings.threads`, freed memory kept on a
        CPU. Entering does it."""
        with ExitStack() as stack:
            stack.enter_context(exact_float32())
            if self.device.type == "cpu":
                stack.enter_context(freed_memory_kept())
            if self.settings.threads:
                stack.callback(torch.set_num_threads, torch.get_num_threads())
                torch.set_num_threads(self.settings.threads)
            self._surroundings = stack.pop_all()

    def rest(self) -> None:
        """Put that back and keep the model ready, for an open session beside which other work goes on until `wake`."""
        self._surroundings.close()

    @property
    def classes_out(self) -> int:
        """Scores a row, known while the session is open."""
        return self._runner.outputs

    @property
    def folded(self) -> int:
        """How many batch norms were folded into convolutions."""
        return self._runner.folded

    def predict(self, inputs: Tensor, layers: Sequence[str] = ()) -> Prediction:
        """One forward pass over inputs [P, C, H, W]; records the outputs of `layers` on its way.

        Without layers no graph is built. With them the graph begins at the first of them and is freed when
        `Prediction.recordings(targets)` was read.
        """
        self._runner.opened()
        return self._predictor.predict(inputs, layers)

    def at_work(self, kind: str, layers: Sequence[str] = ()) -> AbstractContextManager[Work]:
        """Where `read` is to be called for probes of a kind, or `predict` (kind "predict") for those layers: in lanes,
        or in turn. Nothing is running at the end."""
        lanes = self._runner.lanes
        together = kind in LANE_KINDS or (kind == "predict" and not layers)
        return lanes.at_work() if lanes and together else nullcontext(InTurn())

    def on_threads(self, call: Callable[[], None]) -> None:
        """Have every thread do `call` that `at_work` gives work to: the calling one, and the lanes."""
        call()
        if self._runner.lanes is not None:
            self._runner.lanes.on_each(call)

    def read(self, probe: Probe, inputs: Tensor, targets: Tensor) -> Reading:
        """Read a probe for inputs [R, C, H, W] and targets int64 [R, K] (each in 0..classes_out-1)."""
        self._runner.opened()
        targets = targets.to(self.device)
        if isinstance(probe, Scores):
            return self._scores.read(probe, inputs, targets)
        if isinstance(probe, InputGradients):
            return self._gradients.read(probe, inputs, targets)
        if isinstance(probe, DirectionalDerivatives):
            return self._derivatives.read(probe, inputs, targets)
        if isinstance(probe, InjectedScores):
            return self._injected.read(probe, inputs, targets)
        raise ArgumentError(
            f"probe must be Scores, InputGradients, DirectionalDerivatives or InjectedScores, got {probe!r}"
        )

    def cam_layer(self) -> str:
        """The last layer with feature maps, or in a transformer with a grid of tokens, found from a traced pass.

        `ArgumentError` where there is none; it lists the layers that could be named instead.
        """
        return self._lookup.automatic()

    def check_layer(self, name: str) -> str:
        """`name` if that layer gives feature maps or a grid of tokens in a forward pass; else `ArgumentError`, which
        lists others."""
        return self._lookup.check(name)

    def layout(self, name: str) -> Layout:
        """How the positions of a picture lie in a layer's output; `ArgumentError` where it has none."""
        return self._lookup.layouts((name,))[name]

    def map_shape(self, name: str) -> tuple[int, int, int]:
        """D, h, w of a layer's feature maps, as predictions record them."""
        recorder, outputs, _ = self._predictor.record(self._runner.blank(1), (name,))
        (activation,) = recorder.maps([output.detach() for output in outputs])
        channels, height, width = activation.shape[1:]
        return channels, height, width

    def check_injection(self, probe: InjectedScores) -> None:
        """Try the probe out; `ArgumentError` where the layer's output cannot be replaced."""
        self._injected.check(probe)
