"""`Session`: a model at work. The only place that runs one, and that knows precision, memory format and hooks."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastxai.config import check_int
from fastxai.errors import ArgumentError, CannotRun
from fastxai.memory import freed_memory_kept
from fastxai.models.backward import FrozenBackward
from fastxai.models.compiling import (
    MOST_TARGETS,
    Backward,
    Forward,
    Gradients,
    compile_gradients,
    compile_scores,
    compile_stages,
)
from fastxai.models.device import DTYPES, check_compiler, check_precision, exact_float32, find_device
from fastxai.models.folding import Folded, fold_batch_norms
from fastxai.models.forward_mode import read_derivatives, uniform_copy
from fastxai.models.injector import Injector, is_bottleneck
from fastxai.models.lanes import LANE_KINDS, InTurn, Lanes, Work
from fastxai.models.layers import Layers
from fastxai.models.layouts import Layout
from fastxai.models.outputs import find_logits
from fastxai.models.padding import take_in_padding
from fastxai.models.prepare import lower_weights, private_copy, twin
from fastxai.models.probes import (
    DirectionalDerivatives,
    InjectedScores,
    InputGradients,
    Prediction,
    Probe,
    Reading,
    Recording,
    Scores,
    unpack_directions,
    unpack_injections,
)
from fastxai.models.record import Recorder, assemble
from fastxai.models.tokens import Tokens, trace_tokens
from fastxai.types import Settings

if TYPE_CHECKING:
    from fastxai.models.model import Model

# Gradients of fp16 activations underflow below 6e-8; a constant power of two moves them up and is divided out
# exactly. Static, because a scale that reacts to the numbers would make results depend on their neighbours.
_FP16_SCALE = 1024.0


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
        self.device = find_device(settings.device)
        check_precision(settings.precision, self.device)
        check_int("lanes", settings.lanes, 1, None if self.device.type == "cpu" else 1)
        self.dtype = DTYPES[settings.precision]
        self._scale = _FP16_SCALE if settings.precision == "fp16" else 1.0
        self._frozen_backward = self.device.type == "cpu"
        self._stack, self._surroundings = ExitStack(), ExitStack()
        self._module: nn.Module | None = None
        self._lanes: Lanes | None = None
        self._twins: list[nn.Module] = []  # one a lane
        self._compiling = threading.Lock()  # lanes compile gradients at their first chunk
        self._scorer: Callable[[Tensor], Any] | None = None  # compiled, for scores
        self._predictor: Callable[[Tensor], Any] | None = None  # compiled, for predictions that record nothing
        # Compiled, by the shape of inputs and targets, and by that of inputs and the layers.
        self._differentiate: dict[tuple[int, ...], Gradients] = {}
        self._stages: dict[tuple[Any, ...], tuple[Forward, Backward]] = {}
        self._uniform: nn.Module | None = None
        self._layers: Layers | None = None
        self._bottlenecks: dict[str, bool] = {}  # by layer, see `is_bottleneck`
        self._tokens: Tokens | None = None
        self._folded: Folded | None = None
        self._autocast = self.dtype != torch.float32
        self._expand = self._mutates = False
        self._outputs = 0

    def __enter__(self) -> Session:
        with ExitStack() as stack:
            stack.callback(self.rest)
            self.wake()
            stack.callback(self._forget)
            self._module = private_copy(self.model.module, self.device)
            if self.settings.fold:
                self._fold(self._module)
            mixed = lower_weights(self._module, self.dtype)
            self._autocast = self.dtype != torch.float32 and mixed
            self._try_out()
            if self.settings.lanes > 1:
                self._lanes = Lanes(self.settings.lanes, self.settings.threads or torch.get_num_threads())
                stack.callback(self._lanes.close)
                self._twins = [twin(self._module) for _ in range(self._lanes.count)]
            if self.settings.compile:
                check_compiler(self.device)
            if {"scores", "predict"} & set(self.settings.compile):
                compiled = compile_scores(self._module, self.device)
                if "predict" in self.settings.compile:
                    self._predictor = compiled
                if "scores" in self.settings.compile:
                    self._scorer = compiled
                    self._compile()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

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
        self._opened()
        return self._outputs

    def predict(self, inputs: Tensor, layers: Sequence[str] = ()) -> Prediction:
        """One forward pass over inputs [P, C, H, W]; records the outputs of `layers` on its way.

        Without layers no graph is built. With them the graph begins at the first of them and is freed when
        `Prediction.recordings(targets)` was read.
        """
        module = self._opened()
        if not layers:
            ready = self._ready(inputs)  # out here, as for scores
            # What goes wrong while code is compiled is put in one line; elsewhere the engine must see memory run out.
            with torch.inference_mode(), self._reported(ready) if self._predictor else nullcontext():
                logits = self._run(self._predictor or module, ready)
            return Prediction(logits.clone(), lambda targets: {})  # a clone made out here is a normal tensor
        if "predict" in self.settings.compile:
            return self._compiled_prediction(self._ready(inputs).detach(), tuple(layers))
        recorder, outputs, logits = self._record(self._ready(inputs).detach(), layers)

        def record(targets: Tensor) -> Mapping[str, Recording]:
            scores, last = logits.gather(1, targets.to(self.device)), targets.shape[1] - 1

            def gradients(k: int) -> Sequence[Tensor]:
                return recorder.gradients(outputs, scores[:, k], self._scale, again=k < last)

            found = assemble(layers, recorder.maps([output.detach() for output in outputs]), last + 1, gradients)
            outputs.clear()
            return found

        return Prediction(logits.detach(), record)

    def _record(
        self, inputs: Tensor, layers: Sequence[str], *, constant: bool = False
    ) -> tuple[Recorder, list[Tensor], Tensor]:
        """A forward pass with what it recorded, and its scores."""
        module = self._opened()
        if self._folded is not None:
            self._folded.restore(layers)
        recorder = Recorder(module, self._layouts(layers))
        with recorder, torch.enable_grad():
            logits = self._run(module, inputs, constant=constant)
        recorder.check(logits)
        return recorder, recorder.take(), logits

    def _compiled_prediction(self, inputs: Tensor, layers: tuple[str, ...]) -> Prediction:
        """Compiled for this shape and these layers, at the first call with them."""

        def predict(inputs: Tensor, targets: Tensor) -> list[Tensor]:
            recorder, outputs, logits = self._record(inputs, layers, constant=True)
            with torch.enable_grad():
                scores = logits.gather(1, targets)[:, 0]
            found = recorder.gradients(outputs, scores, self._scale, again=False)
            return [logits.detach(), *recorder.maps([output.detach() for output in outputs]), *found]

        key = (layers, *inputs.shape)
        if key not in self._stages:
            self._layouts(layers)  # which looks at the model's numbers: compiled code cannot
            blank = torch.zeros((len(inputs), 1), dtype=torch.int64, device=self.device)
            with self._reported(inputs):
                forward, backward = compile_stages(predict, inputs, blank)
                backward(forward(inputs), blank)
            self._stages[key] = forward, backward
        forward, backward = self._stages[key]
        kept = forward(inputs)

        def record(targets: Tensor) -> Mapping[str, Recording]:
            targets = targets.to(self.device)
            activations = kept[1 : 1 + len(layers)]
            return assemble(
                layers, activations, targets.shape[1], lambda k: backward(kept, targets[:, k : k + 1].contiguous())
            )

        return Prediction(kept[0], record)

    def at_work(self, kind: str, layers: Sequence[str] = ()) -> AbstractContextManager[Work]:
        """Where `read` is to be called for probes of a kind, or `predict` (kind "predict") for those layers: in lanes,
        or in turn. Nothing is running at the end."""
        together = kind in LANE_KINDS or (kind == "predict" and not layers)
        return self._lanes.at_work() if self._lanes and together else nullcontext(InTurn())

    def read(self, probe: Probe, inputs: Tensor, targets: Tensor) -> Reading:
        """Read a probe for inputs [R, C, H, W] and targets int64 [R, K] (each in 0..classes_out-1)."""
        self._opened()
        targets = targets.to(self.device)
        if isinstance(probe, Scores):
            return self._scores(probe, inputs, targets)
        if isinstance(probe, InputGradients):
            return self._gradients(inputs, targets)
        if isinstance(probe, DirectionalDerivatives):
            return self._derivatives(probe, inputs, targets)
        if isinstance(probe, InjectedScores):
            return self._injected(probe, inputs, targets)
        raise ArgumentError(
            f"probe must be Scores, InputGradients, DirectionalDerivatives or InjectedScores, got {probe!r}"
        )

    def cam_layer(self) -> str:
        """The last layer with feature maps, or in a transformer with a grid of tokens, found from a traced pass.

        `ArgumentError` where there is none; it lists the layers that could be named instead.
        """
        return self._traced().automatic(self._traced_tokens)

    def check_layer(self, name: str) -> str:
        """`name` if that layer gives feature maps or a grid of tokens in a forward pass; else `ArgumentError`, which
        lists others."""
        return self._traced().check(name, self._traced_tokens)

    def layout(self, name: str) -> Layout:
        """How the positions of a picture lie in a layer's output; `ArgumentError` where it has none."""
        return self._layouts((name,))[name]

    def map_shape(self, name: str) -> tuple[int, int, int]:
        """D, h, w of a layer's feature maps, as predictions record them."""
        recorder, outputs, _ = self._record(self._blank(1), (name,))
        (activation,) = recorder.maps([output.detach() for output in outputs])
        channels, height, width = activation.shape[1:]
        return channels, height, width

    def check_injection(self, probe: InjectedScores) -> None:
        """Try the probe out; `ArgumentError` where the layer's output cannot be replaced."""
        with self._reported(self._blank(2)):
            self._is_bottleneck(probe)

    def _scores(self, probe: Scores, inputs: Tensor, targets: Tensor) -> Reading:
        inputs = self._ready(inputs)  # out here: for compiled code, a tensor made in inference mode is another type
        with torch.inference_mode():
            logits = self._run(self._scorer or self._opened(), inputs).float()
            scores = self.model.probabilities(logits) if probe.kind == "probability" else logits
            gathered = scores.gather(1, targets)
        return Reading(gathered.clone())  # a normal tensor: those of inference mode cannot be used with autograd

    def _gradients(self, inputs: Tensor, targets: Tensor) -> Reading:
        rows, count = targets.shape
        ready = self._ready(inputs).detach()
        if "gradients" in self.settings.compile and count <= MOST_TARGETS:
            return Reading(*self._compiled_gradients(ready, targets)(ready, targets))
        out = torch.empty((rows, count, *inputs.shape[1:]), dtype=torch.float32, device=self.device)
        scores, gradients = self._backward(ready, targets)
        for k, gradient in enumerate(gradients):
            out[:, k].copy_(gradient)
        if self._scale != 1.0:
            out.div_(self._scale)
        return Reading(scores, out)

    def _backward(self, inputs: Tensor, targets: Tensor, *, constant: bool = False) -> tuple[Tensor, Iterator[Tensor]]:
        """Scores [R, K], and for one target after the other the gradients [R, C, H, W] of `_scale` times its score."""
        leaf, count = inputs.detach().requires_grad_(), int(targets.shape[1])
        with torch.enable_grad():
            logits = self._run(self._opened(), leaf.clone() if self._mutates else leaf, constant=constant)
            scores = logits.gather(1, targets)

        def gradients() -> Iterator[Tensor]:
            for k in range(count):
                with torch.enable_grad():
                    total, scale = scores[:, k].sum(), torch.full_like(scores[0, 0], self._scale)
                (gradient,) = torch.autograd.grad(total, leaf, scale, retain_graph=k < count - 1)
                yield gradient

        return scores.detach().float(), gradients()

    def _compiled_gradients(self, inputs: Tensor, targets: Tensor) -> Gradients:
        """Compiled for these shapes, at the first call with them."""

        def differentiate(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            scores, gradients = self._backward(inputs, targets, constant=True)
            parts = torch.stack([gradient.float() / self._scale for gradient in gradients], dim=1)
            return scores, parts.contiguous()  # as sums are, which they are added to

        shapes = (*inputs.shape, *targets.shape)
        with self._compiling:
            if shapes not in self._differentiate:
                with self._reported(inputs):
                    made = compile_gradients(differentiate, inputs, targets)
                    made(inputs, targets)
                self._differentiate[shapes] = made
            return self._differentiate[shapes]

    def _derivatives(self, probe: DirectionalDerivatives, inputs: Tensor, targets: Tensor) -> Reading:
        """Eager and without autocast: forward mode goes with neither."""
        module = self._opened()
        if self._autocast:
            self._uniform = self._uniform or uniform_copy(module, self.dtype)
            module = self._uniform
        points, tangents = unpack_directions(inputs.to(self.device, non_blocking=True), probe.directions)

        def forward(leaf: Tensor) -> Tensor:
            logits = find_logits(module(leaf.clone() if self._mutates else leaf), len(points))
            return torch.cat([-logits, logits], dim=1) if self._expand else logits

        ready = self._ready(tangents.flatten(0, 1)).unflatten(0, tangents.shape[:2])
        return read_derivatives(forward, self._ready(points), ready, targets)

    def _injected(self, probe: InjectedScores, inputs: Tensor, targets: Tensor) -> Reading:
        """Eager: compiled code has no place for other activations."""
        packed = inputs.to(self.device, non_blocking=True)
        pictures, activations = unpack_injections(packed, self._input_shape, probe.shape)
        if self._is_bottleneck(probe):
            pictures = pictures[:1]  # any will do
        with torch.inference_mode():
            gathered = self._with_activations(probe, self._ready(pictures), activations).gather(1, targets)
        return Reading(gathered.clone())

    def _with_activations(self, probe: InjectedScores, inputs: Tensor, activations: Tensor) -> Tensor:
        module, moved = self._opened(), self._traced().positions_first(probe.layer)
        if self._folded is not None:
            self._folded.restore((probe.layer,))
        with Injector(module, probe.layer, activations.movedim(1, -1) if moved else activations) as injector:
            logits = self._run(module, inputs, rows=len(activations))
        injector.check()
        return logits

    def _is_bottleneck(self, probe: InjectedScores) -> bool:
        if probe.layer not in self._bottlenecks:
            pictures, activations = waves((2, *self._input_shape)), waves((2, *probe.shape)).to(self.device)
            scores = partial(self._with_activations, probe)
            self._bottlenecks[probe.layer] = is_bottleneck(scores, self._ready(pictures), self._blank(1), activations)
        return self._bottlenecks[probe.layer]

    def _run(
        self,
        forward: Callable[[Tensor], Any],
        inputs: Tensor,
        *,
        constant: bool = False,
        rows: int | None = None,
    ) -> Tensor:
        """inputs [R, C, H, W] -> raw scores float32 [R, classes_out], within whatever gradient mode is set.

        constant: gradients will go back through compiled code that holds the weights as constants. rows: of scores,
        where they are not as many as of inputs.
        """
        ready = self._ready(inputs)
        if self._mutates and not ready.requires_grad and ready.data_ptr() == inputs.data_ptr():
            ready = ready.clone()
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self._autocast):
            with FrozenBackward(constant) if self._frozen_backward and torch.is_grad_enabled() else nullcontext():
                output = forward(ready)
        logits = find_logits(output, rows or int(inputs.shape[0])).float()
        return torch.cat([-logits, logits], dim=1) if self._expand else logits

    def _ready(self, inputs: Tensor) -> Tensor:
        layout = torch.channels_last if inputs.ndim == 4 else torch.preserve_format
        return inputs.to(self.device, self.dtype, non_blocking=True, memory_format=layout)

    def _fold(self, module: nn.Module) -> None:
        """Fold padding and batch norms, in float32. Layers are looked up before: folding leaves fewer of them."""
        probe = waves((2, *self._input_shape)).to(self.device).contiguous(memory_format=torch.channels_last)

        def forward() -> Tensor:
            with self._reported(probe):
                return find_logits(module(probe.clone()), 2).float()

        with torch.no_grad():
            self._layers = Layers.trace(module, forward)
        # On a GPU a copy is cheap, and fast code for wider depthwise kernels was not to be expected.
        take_in_padding(module, forward, wider=self.device.type == "cpu")
        self._folded = fold_batch_norms(module, forward)

    @property
    def folded(self) -> int:
        """How many batch norms were folded into convolutions."""
        return 0 if self._folded is None else len(self._folded)

    def _try_out(self) -> None:
        """One forward pass of two grey pictures before any work: how many scores, and does it write on its input?"""
        probe = self._blank(2)
        with torch.no_grad(), self._reported(probe):
            logits = self._run(self._opened(), probe)
        self._mutates = probe._version > 0
        names, found = self.model.classes, int(logits.shape[1])
        if found == 1 and self.model.output == "softmax":
            raise ArgumentError("output must be sigmoid or logits for a module with one score, got 'softmax'")
        self._expand = found == 1 and names is not None and len(names) == 2 and self.model.output == "sigmoid"
        self._outputs = 2 if self._expand else found
        if names is not None and len(names) != self._outputs:
            raise ArgumentError(f"classes must be as many as the module's scores, got {len(names)} names for {found}")

    def _compile(self) -> None:
        """Compile now, for the shape of the run, so that neither its time nor its errors come in the middle."""
        probe = self._blank(self.settings.rows["scores"])
        targets = torch.zeros((len(probe), 1), dtype=torch.int64, device=self.device)
        with self._reported(probe), self.at_work("scores") as work:
            work.submit(lambda: self._scores(Scores(), probe, targets))()

    @contextmanager
    def _reported(self, probe: Tensor) -> Iterator[None]:
        """What goes wrong inside the model, in one line."""
        try:
            yield
        except ArgumentError:
            raise
        except Exception as error:
            raise CannotRun(
                f"model {self.model.name} failed on a batch {list(probe.shape)} in {self.settings.precision} "
                f"on {self.device}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            ) from error

    @property
    def _input_shape(self) -> tuple[int, int, int]:
        return (self.model.preprocess.channels, *self.model.preprocess.size)

    def _blank(self, rows: int) -> Tensor:
        return self._ready(torch.zeros((rows, *self._input_shape), device=self.device))

    def _traced(self) -> Layers:
        module = self._opened()
        if self._layers is None:
            with torch.no_grad():
                self._layers = Layers.trace(module, lambda: self._run(module, self._blank(1)))
        return self._layers

    def _traced_tokens(self) -> Tokens:
        module = self._opened()
        if self._tokens is None:
            leaf = self._blank(2).requires_grad_()
            with self._reported(leaf):
                self._tokens = trace_tokens(module, lambda: self._run(module, leaf.clone()))
        return self._tokens

    def _layouts(self, names: Sequence[str]) -> dict[str, Layout]:
        """How the outputs of layers are read as maps."""
        traced = self._traced()
        return {name: traced.layout(name, self._traced_tokens) for name in names}

    def _opened(self) -> nn.Module:
        """The module, for the calling thread."""
        if self._module is None:
            raise RuntimeError("session is not open: use it as 'with model.open(settings) as session'")
        lane = self._lanes.number if self._lanes else None
        return self._module if lane is None else self._twins[lane]

    def _forget(self) -> None:
        self._module = self._scorer = self._predictor = self._uniform = self._layers = self._folded = None
        self._tokens = self._lanes = None
        self._twins.clear()
        self._differentiate.clear()
        self._stages.clear()
        self._bottlenecks.clear()


def waves(shape: tuple[int, ...]) -> Tensor:
    """Inputs float32 that are not zero, the same on every call: zeros and denormals have speeds of their own."""
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float32) * 0.7).reshape(shape)
