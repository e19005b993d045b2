"""`Runner`: the private copy of a model, and how it is run. The only place that knows precision and memory format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastxai.config import check_int
from fastxai.errors import ArgumentError, CannotRun
from fastxai.models.backward import FrozenBackward
from fastxai.models.device import DTYPES, check_precision, find_device
from fastxai.models.folding import Folded, fold_batch_norms
from fastxai.models.lanes import Lanes
from fastxai.models.outputs import find_logits
from fastxai.models.padding import take_in_padding
from fastxai.models.prepare import lower_weights, private_copy, twin
from fastxai.types import Settings

if TYPE_CHECKING:
    from fastxai.models.model import Model

# Gradients of fp16 activations underflow below 6e-8; a constant power of two moves them up and is divided out
# exactly. Static, because a scale that reacts to the numbers would make results depend on their neighbours.
_FP16_SCALE = 1024.0


class Runner:
    """A frozen copy of a model in evaluation mode, from `load` to `unload`.

    device, dtype: of what it computes with. scale: of scores whose gradients are read, to be divided out of these.
    autocast: whether it needs it. mutates: whether it writes on its input.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.device = find_device(settings.device)
        check_precision(settings.precision, self.device)
        check_int("lanes", settings.lanes, 1, None if self.device.type == "cpu" else 1)
        self.dtype = DTYPES[settings.precision]
        self.scale = _FP16_SCALE if settings.precision == "fp16" else 1.0
        self.autocast = self.dtype != torch.float32
        self.mutates = False
        self.lanes: Lanes | None = None
        self._frozen_backward = self.device.type == "cpu"
        self._expand, self._outputs = False, 0
        self._module: nn.Module | None = None
        self._twins: list[nn.Module] = []  # one a lane
        self._folded: Folded | None = None

    def load(self) -> None:
        """Make the copy, in float32 and as the model has it."""
        self._module = private_copy(self.model.module, self.device)

    def fold(self) -> None:
        """Fold padding and batch norms into convolutions, in float32. It leaves fewer layers."""
        # On a GPU a copy is cheap, and fast code for wider depthwise kernels was not to be expected.
        take_in_padding(self.module, self.full_precision, wider=self.device.type == "cpu")
        self._folded = fold_batch_norms(self.module, self.full_precision)

    def lower(self) -> None:
        """Give the copy its precision, and try it out."""
        mixed = lower_weights(self.module, self.dtype)
        self.autocast = self.dtype != torch.float32 and mixed
        self._try_out()

    def open_lanes(self, count: int, threads: int) -> None:
        """Have threads run it side by side."""
        self.lanes = Lanes(count, threads)
        self._twins = [twin(self.module) for _ in range(count)]

    def unload(self) -> None:
        """Let go of the copy and end its lanes."""
        if self.lanes is not None:
            self.lanes.close()
        self._module = self._folded = self.lanes = None
        self._twins.clear()

    @property
    def module(self) -> nn.Module:
        """The module, for the calling thread."""
        opened, lane = self.opened(), self.lanes.number if self.lanes else None
        return opened if lane is None else self._twins[lane]

    def opened(self) -> nn.Module:
        """The module; `RuntimeError` where it is not loaded."""
        if self._module is None:
            raise RuntimeError("session is not open: use it as 'with model.open(settings) as session'")
        return self._module

    @property
    def outputs(self) -> int:
        """Scores a row."""
        self.opened()
        return self._outputs

    @property
    def folded(self) -> int:
        """How many batch norms were folded into convolutions."""
        return 0 if self._folded is None else len(self._folded)

    def restore(self, layers: Sequence[str]) -> None:
        """Have these layers give what they give in the caller's model, where folding changed that."""
        if self._folded is not None:
            self._folded.restore(layers)

    def run(
        self,
        forward: Callable[[Tensor], Any],
        inputs: Tensor,
        *,
        constant: bool = False,
        rows: int | None = None,
    ) -> Tensor:
        """inputs [R, C, H, W] -> raw scores float32 [R, outputs], within whatever gradient mode is set.

        constant: gradients will go back through compiled code that holds the weights as constants. rows: of scores,
        where they are not as many as of inputs.
        """
        ready = self.ready(inputs)
        if self.mutates and not ready.requires_grad and ready.data_ptr() == inputs.data_ptr():
            ready = ready.clone()
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.autocast):
            with FrozenBackward(constant) if self._frozen_backward and torch.is_grad_enabled() else nullcontext():
                output = forward(ready)
        return self.both(find_logits(output, rows or int(inputs.shape[0])).float())

    def both(self, logits: Tensor) -> Tensor:
        """Scores of two classes, where the module has one for both of them."""
        return torch.cat([-logits, logits], dim=1) if self._expand else logits

    def full_precision(self) -> Tensor:
        """Scores of two pictures, as long as the copy is in float32."""
        probe = waves((2, *self.input_shape)).to(self.device).contiguous(memory_format=torch.channels_last)
        with self.reported(probe):
            return find_logits(self.module(probe), 2).float()

    def ready(self, inputs: Tensor) -> Tensor:
        """Inputs on the device, in its type and in the layout that convolutions take."""
        layout = torch.channels_last if inputs.ndim == 4 else torch.preserve_format
        return inputs.to(self.device, self.dtype, non_blocking=True, memory_format=layout)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        return (self.model.preprocess.channels, *self.model.preprocess.size)

    def blank(self, rows: int) -> Tensor:
        """Grey pictures, ready."""
        return self.ready(torch.zeros((rows, *self.input_shape), device=self.device))

    @contextmanager
    def reported(self, probe: Tensor) -> Iterator[None]:
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

    def _try_out(self) -> None:
        """One forward pass of two grey pictures before any work: how many scores, and does it write on its input?"""
        probe = self.blank(2)
        with torch.no_grad(), self.reported(probe):
            logits = self.run(self.module, probe)
        self.mutates = probe._version > 0
        names, found = self.model.classes, int(logits.shape[1])
        if found == 1 and self.model.output == "softmax":
            raise ArgumentError("output must be sigmoid or logits for a module with one score, got 'softmax'")
        self._expand = found == 1 and names is not None and len(names) == 2 and self.model.output == "sigmoid"
        self._outputs = 2 if self._expand else found
        if names is not None and len(names) != self._outputs:
            raise ArgumentError(f"classes must be as many as the module's scores, got {len(names)} names for {found}")


def waves(shape: tuple[int, ...]) -> Tensor:
    """Inputs float32 that are not zero, the same on every call: zeros and denormals have speeds of their own."""
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float32) * 0.7).reshape(shape)
