"""A model kept ready between the calls of tools that explain a few pictures a call.

Opening a model (a private copy, folded, tried out) costs more than one of their calls. So it stays open from call to
call, and is opened again where anything about it changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fastxai.engine import Engine
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.explainers import Explainer
from fastxai.models import Model, Probe, Reading, Session, calibrate
from fastxai.models.lanes import LANE_KINDS
from fastxai.targets import parse_targets
from fastxai.types import Preprocess, Settings

_ROWS = {"cpu": 8, "cuda": 64}  # rows a chunk, at most


class KeptModel:
    """What a caller gave as a model, ready to be read.

    given: an `nn.Module` (or its bound `forward`), which is read in float32, on the device of its parameters, on a
    copy in evaluation mode; a `fastxai.Model`, which is read in its own precision, on its own device; or any other
    function from inputs [R, C, H, W] to scores [R, classes], which is called as it is, in float32.
    """

    def __init__(self, given: Any) -> None:
        if isinstance(given, type) or not (callable(given) or isinstance(given, Model)):
            raise ArgumentTypeError(
                f"model must be an nn.Module, a fastxai.Model or a function, got {type(given).__name__}"
            )
        self.given = given
        self._session: Session | None = None
        self._key: tuple[Any, ...] = ()
        self._seen: _Seen | None = None

    @property
    def module(self) -> nn.Module | None:
        """The caller's module; None where only a function was given."""
        if isinstance(self.given, Model):
            return self.given.module
        owner = getattr(self.given, "__self__", None)
        if inspect.ismethod(self.given) and isinstance(owner, nn.Module) and self.given == owner.forward:
            return owner
        return self.given if isinstance(self.given, nn.Module) else None

    @contextmanager
    def engine(
        self,
        inputs: Tensor,
        rows: Mapping[str, int],
        *,
        explainers: Sequence[Explainer] = (),
        targets: Callable[[int], Any] = lambda classes: "top1",
        on_rows: Callable[[str, int], None] = lambda method, rows: None,
    ) -> Iterator[Engine]:
        """An engine on the open model, for inputs like [N, C, H, W] and so many rows of each probe kind in a block.

        targets: the number of the model's scores -> targets in a form that `explain` takes. Chunks are as even as
        rows allow, so that little of them is padding.
        """
        session = self._opened(inputs, rows)
        session.wake()
        try:
            rule = parse_targets(targets(session.classes_out), classes=session.classes_out, ids=_ids(inputs))
            engine = Engine(session, explainers, rule, 0, on_rows)
            for kind in ("predict", "scores", "gradients", "injected"):
                if kind not in session.settings.compile:
                    most = max(engine.rows[kind], _ROWS[session.device.type])
                    lanes = session.settings.lanes if kind in LANE_KINDS else 1
                    engine.rows[kind] = _even(rows[kind], most, lanes) if kind in rows else most
            yield engine
        finally:
            session.rest()

    def read(
        self,
        probe: Probe,
        like: Tensor,
        inputs: Callable[[Session, int, int], Tensor],
        targets: Callable[[int], Tensor],
        count: int,
    ) -> Reading:
        """Read a probe at `count` rows; `inputs` of rows start..stop, for inputs like [N, C, H, W].

        targets: the number of the model's scores -> int64 [count, K].
        """
        with self.engine(like, {probe.name: count}) as engine:
            session = engine.session
            wanted = targets(session.classes_out)
            return engine.read_rows(probe, count, lambda start, stop: inputs(session, start, stop), wanted)

    def close(self) -> None:
        """Give the private copy back; the next call makes another."""
        if self._session is not None:
            self._session.__exit__(None, None, None)
            self._session = None

    def _opened(self, inputs: Tensor, rows: Mapping[str, int]) -> Session:
        if inputs.ndim != 4 or 0 in inputs.shape or not inputs.is_floating_point():
            raise ArgumentError(
                f"inputs must be float model input [N, C, H, W], got {inputs.dtype} of shape {list(inputs.shape)}"
            )
        module = self.module
        key = (*inputs.shape[1:], inputs.device)
        same = module is None or (self._seen is not None and self._seen.still(module))
        if self._session is None or self._key != key or not same:
            model = self._model(inputs)
            self.close()  # the memory of the old copy goes before a new one is made
            session = model.open(self._settings(model, rows)).__enter__()
            session.rest()
            self._session, self._key = session, key
            self._seen = None if module is None else _Seen(module)
        return self._session

    def _model(self, inputs: Tensor) -> Model:
        channels, *size = inputs.shape[1:]
        if isinstance(self.given, Model):
            wanted = (self.given.preprocess.channels, *self.given.preprocess.size)
            if (channels, *size) != wanted:
                raise ArgumentError(f"inputs must have the model's shape {list(wanted)}, got {[channels, *size]}")
            return self.given
        module = self.module
        found = Function(self.given) if module is None else module
        first = next(found.parameters(), None)
        device = inputs.device if first is None else first.device
        plain = Preprocess((size[0], size[1]), None, mean=(0.0,) * channels, std=(1.0,) * channels)
        return Model(
            found, plain, output="logits", device=device, precision="fp32", compile=False, fold=module is not None
        )

    @staticmethod
    def _settings(model: Model, rows: Mapping[str, int]) -> Settings:
        if model.precision != "auto" and model.compile is False:
            return Settings(str(model.device), model.precision, fold=model.fold)
        kinds = {kind: count for kind, count in rows.items() if kind != "injected"}
        return replace(calibrate(model, kinds=kinds), threads=0)


class Function(nn.Module):
    """A function as a module, which copies of it share."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.__dict__["function"] = function  # whatever it is, it is no part of this module

    def __deepcopy__(self, memo: object) -> Function:
        return Function(self.__dict__["function"])

    def forward(self, x: Tensor) -> Any:
        return self.__dict__["function"](x)


class _Seen:
    """A module as it was: its parts, their hooks, and copies of its tensors."""

    def __init__(self, module: nn.Module) -> None:
        self.parts = _parts(module)
        self.tensors = [tensor.detach().clone() for tensor in _tensors(module)]

    def still(self, module: nn.Module) -> bool:
        """Whether the module is the same, bit for bit: also writing through `.data` is seen."""
        now = list(_tensors(module))
        return (
            self.parts == _parts(module)
            and len(now) == len(self.tensors)
            and all(_equal(old, new) for old, new in zip(self.tensors, now, strict=True))
        )


def _parts(module: nn.Module) -> list[tuple[Any, ...]]:
    return [(name, part, *part._forward_hooks, None, *part._forward_pre_hooks) for name, part in module.named_modules()]


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _equal(old: Tensor, new: Tensor) -> bool:
    return old.device == new.device and old.dtype == new.dtype and torch.equal(old, new)


def _ids(inputs: Tensor) -> list[str]:
    return [str(image) for image in range(len(inputs))]


def _even(count: int, most: int, lanes: int) -> int:
    """Rows a chunk: as few chunks as `most` allows and keep all lanes busy, all about as long."""
    chunks = -(-count // (most * lanes)) * lanes
    return -(-count // chunks)
