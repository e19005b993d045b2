"""Weights: reading a file of them, loading them strictly, and the fingerprint of what was loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastxai.errors import ArgumentError, CannotRun
from fastxai.types import Preprocess

_NESTS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A state dict from a safetensors file or a torch file, never by unpickling code.

    Checkpoints that hold the state dict under `state_dict`, `model_state_dict` or `model` are accepted, and so are
    names that all begin with `module.` (data-parallel training) or `_orig_mod.` (compiled training).
    """
    path = Path(path)
    if not path.is_file():
        raise ArgumentError(f"weights must be a file (safetensors or a state dict), got {str(path)!r}")
    state: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for nest in _NESTS:
        if isinstance(state, Mapping) and isinstance(state.get(nest), Mapping):
            state = state[nest]
            break
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ArgumentError(f"weights must hold a state dict (names and tensors), got something else in {str(path)!r}")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise CannotRun(f"weights file {path} is damaged: {_line(error)}") from error
    return found


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # Files of newer pickle protocols may hold what the safe reader does not know: it then raises.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CannotRun(
            f"weights file {path} cannot be read without running code from it (weights_only): save a state dict "
            f"instead; torch says: {_line(error)}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CannotRun(f"weights file {path} is damaged or no torch file: {_line(error)}") from error


def load_weights(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` strictly; the error names the first tensor that is missing, unexpected or of another shape."""
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        parts = [f"{len(missing)} missing (first {missing[0]!r})"] if missing else []
        parts += [f"{len(unexpected)} unexpected (first {unexpected[0]!r})"] if unexpected else []
        raise ArgumentError(f"weights must fit the model's {len(own)} tensors, got {source}: {', '.join(parts)}")
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise ArgumentError(
                f"weights must fit the model, got {source}: {name!r} is {list(value.shape)}, "
                f"the model's is {list(own[name].shape)}"
            )
    module.load_state_dict(dict(state))


@contextmanager
def fixed_random_weights(seed: int = 0) -> Iterator[None]:
    """Modules built inside get the same random weights every time; torch's global generator is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def fingerprint(module: nn.Module, preprocess: Preprocess, output: str) -> str:
    """BLAKE2b-128 over everything that decides the scores: weights, layer types, preprocessing, output function."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, Tensor):
            digest.update(f"{name} {value!r}\n".encode())
            continue
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        plain = value.detach().to("cpu").contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    for name, part in module.named_modules():
        digest.update(f"{name} {type(part).__qualname__}\n".encode())
    digest.update(json.dumps([dataclasses.asdict(preprocess), output], sort_keys=True).encode())
    return digest.hexdigest()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
