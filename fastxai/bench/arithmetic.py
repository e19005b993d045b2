"""The arithmetic of passes, and the time that it would take at the speed of a matrix product.

Says how far bare passes themselves could still be made faster on a machine: the roofline's horizontal part (Williams,
Waterman and Patterson, "Roofline", 2009), with the speed of a large product instead of a data sheet's figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fastxai.bench.limit import Passes, now, reference
from fastxai.bench.turns import Turn
from fastxai.models import Model, Session
from fastxai.models.runner import waves
from fastxai.types import Settings

_SIDES = {"cpu": 2048, "cuda": 8192}  # of the square matrices, so large that only arithmetic counts


def flop_a_row(model: Model, settings: Settings, passes: Passes) -> int:
    """Floating point operations (an addition and a multiplication are two) of one row of `passes`.

    Of the model as it is: convolutions, products of matrices and attention; batch norms, activations and whatever else
    passes over its data once are not counted. `RuntimeError` for a model with an operator that cannot be counted, such
    as flex attention.
    """
    with model.open(reference(settings)) as session:
        chunk = passes.chunk(session, 1)
        passes.call(session, *chunk)  # the first call in a session also looks for the layers
        with _Counting() as counted:
            passes.call(session, *chunk)
    return counted.flop


def product_turn(session: Session, flop: int, seconds: float) -> Turn:
    """A turn of matrix products that lasts about `seconds`: how long `flop` operations take at their speed.

    In the session's precision, on all its cores.
    """
    side = _SIDES[session.device.type]
    left, right = waves((2, side, side)).to(session.device, session.dtype)
    found = torch.empty_like(left)

    def mean(calls: int) -> float:
        start = now(session.device)
        for _ in range(calls):
            torch.matmul(left, right, out=found)
        return (now(session.device) - start) / calls

    mean(1)

    def turn() -> float:
        one = mean(1)
        return flop / (2 * side**3) * mean(max(2, int(seconds / one)))

    return turn


class _Counting(TorchDispatchMode):
    """Sums up the operations by torch's own formulas.

    torch's FlopCounterMode tells modules apart by hooks that refuse gradients of inputs alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flop = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func.overloadpacket)
        if formula is None:
            with self:  # one made of others, which come whole where gradients are off
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if formula is not None:
            self.flop += int(formula(*args, **kwargs, out_val=out))
        return out
