"""`Model`: a classifier with its preprocessing, classes and output, ready to be opened for work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastxai.config import check_choice
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.models.device import PRECISIONS, check_precision, find_device
from fastxai.models.outputs import KINDS, probabilities
from fastxai.models.weights import fingerprint
from fastxai.types import Preprocess, Settings

if TYPE_CHECKING:
    from fastxai.models.session import Session


class Model:
    """An image classifier: inputs float [B, C, H, W] -> raw scores [B, classes].

    module: any `nn.Module` that `copy.deepcopy` can copy, but for those of `torch.jit`. It is never changed: work
    happens on a private copy made when the model is opened, so training it further between two runs is seen by the
    second one. Hooks on it are part of it. `torch.compile` and (distributed) data-parallel wrappers are taken off.
    preprocess: geometry and normalisation as data. classes: names in the order of the scores.
    output: how scores become probabilities. `softmax`: one of the classes; `sigmoid`: each for itself (a module with
    one output may have two class names: the score z stands for the second, -z for the first); `logits`: the scores
    are kept as they are (for regression, or a module that ends in a softmax of its own).
    device: auto, cpu, cuda, cuda:N; precision: auto, fp32, bf16, fp16; compile: auto, True, False. "auto" is settled
    by `calibrate`. fold: batch norms and padding become part of the convolutions beside them, faster and rounded
    elsewhere (scores move by some 1e-6 of their range). class_keys: stable keys (WordNet ids) beside the names, by
    which folders may name classes.
    """

    def __init__(
        self,
        module: nn.Module,
        preprocess: Preprocess,
        classes: Sequence[str] | None = None,
        output: str = "softmax",
        *,
        name: str = "module",
        device: str | torch.device = "auto",
        precision: str = "auto",
        compile: bool | str = "auto",
        fold: bool = True,
        class_keys: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ArgumentTypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        if isinstance(_unwrap(module), torch.jit.ScriptModule):
            raise ArgumentError(
                "module must be one whose layers can be seen at work, got one of torch.jit.script or trace: "
                "pass the module that it was made from"
            )
        if not isinstance(preprocess, Preprocess):
            raise ArgumentTypeError(f"preprocess must be a fastxai.Preprocess, got {type(preprocess).__name__}")
        if not isinstance(name, str) or not name:
            raise ArgumentTypeError(f"name must be a text that is not empty, got {name!r}")
        if compile not in (True, False, "auto"):
            raise ArgumentError(f"compile must be True, False or 'auto', got {compile!r}")
        self.module, self.preprocess, self.name = _unwrap(module), preprocess, name
        self.classes = _names("classes", classes)
        self.class_keys = _names("class_keys", class_keys)
        if self.class_keys is not None and len(self.class_keys) != len(self.classes or ()):
            raise ArgumentError(
                f"class_keys must be as many as classes, got {len(self.class_keys)} for {len(self.classes or ())}"
            )
        self.output = check_choice("output", output, KINDS)
        self.device = find_device(device)
        self.precision = check_choice("precision", precision, ("auto", *PRECISIONS))
        if precision != "auto":
            check_precision(precision, self.device)
        if not isinstance(fold, bool):
            raise ArgumentError(f"fold must be True or False, got {fold!r}")
        self.compile: bool | str = compile
        self.fold = fold

    @property
    def fingerprint(self) -> str:
        """BLAKE2b-128 of weights, layer types, preprocessing and output, as 32 hex digits; read afresh each time."""
        return fingerprint(self.module, self.preprocess, self.output)

    def class_name(self, index: int) -> str:
        """The name of a class, "class 7" where names are unknown."""
        if self.classes is not None and 0 <= index < len(self.classes):
            return self.classes[index]
        return f"class {index}"

    def probabilities(self, logits: Tensor) -> Tensor:
        """Raw scores [B, classes] -> float32 [B, classes], by the model's output function."""
        return probabilities(logits, self.output)

    def open(self, settings: Settings) -> Session:
        """A session on a private copy, to be used in a `with` statement."""
        from fastxai.models.session import Session

        return Session(self, settings)

    def describe(self) -> dict[str, Any]:
        """The model as plain JSON data, for run.json and for people."""
        pre = self.preprocess
        return {
            "name": self.name,
            "module": type(self.module).__name__,
            "parameters": sum(parameter.numel() for parameter in self.module.parameters()),
            "classes": None if self.classes is None else len(self.classes),
            "output": self.output,
            "preprocess": {
                "size": list(pre.size),
                "resize": list(pre.resize) if isinstance(pre.resize, tuple) else pre.resize,
                "interpolation": pre.interpolation,
                "mean": list(pre.mean),
                "std": list(pre.std),
            },
            "fingerprint": self.fingerprint,
        }

    def __repr__(self) -> str:
        classes = "" if self.classes is None else f", {len(self.classes)} classes"
        height, width = self.preprocess.size
        return f"<Model {self.name}: {type(self.module).__name__}, {height}x{width}{classes}, {self.output}>"


def _names(argument: str, names: Sequence[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ArgumentTypeError(f"{argument} must be a list of texts, got {names!r}"[:200])
    if not names:
        raise ArgumentError(f"{argument} must be None or a list that is not empty, got {list(names)!r}")
    return tuple(names)


def _unwrap(module: nn.Module) -> nn.Module:
    """The module inside of wrappers that only say how to run it: torch.compile and (distributed) data-parallel."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner: Any = module.module
        else:
            inner = getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner
