"""Explain images and keep everything in a run.

IMAGES are files, folders (with all below), globs, or a text or CSV list. A method may be given options:

    fastxai explain photos -e 'lime:samples=500,segments=slic(segments=80)' -e gradcam --out runs/photos
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastxai.cli import forecast, show
from fastxai.cli.progress import show_progress
from fastxai.errors import ArgumentError

if TYPE_CHECKING:
    from fastxai.store import Run

NAME = "explain"
HELP = "explain images, into a run"
DEFAULT_EXPLAINERS = ("lime", "gradient-shap", "gradcam")
SLICE = 64  # images read at a time: their pixels come along
SHOWN = 10  # images listed without --verbose
COMPILE: dict[str, bool | str] = {"auto": "auto", "on": True, "off": False}
FAILED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command; `--config` is added by the caller."""
    parser.add_argument("images", nargs="*", metavar="IMAGES", help="files, folders, globs, or a .txt/.csv list")
    parser.add_argument("--out", metavar="RUN", help="folder of the run (required)")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        default="embedded",
        metavar="SPEC",
        help="embedded (needs no download), embedded:lite1, torchvision:NAME, timm:NAME, hf:NAME, "
        "package.module:factory (default: %(default)s)",
    )
    model.add_argument("--weights", metavar="FILE", help="safetensors or a state dict, instead of a download")
    model.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: %(default)s)")
    model.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    model.add_argument("--compile", default="auto", choices=tuple(COMPILE), help="torch.compile")
    model.add_argument("--no-fold", action="store_true", help="keep batch norms apart from convolutions")

    what = parser.add_argument_group("what is explained")
    what.add_argument(
        "-e",
        "--explainer",
        action="append",
        metavar="METHOD[:OPTION=VALUE,...]",
        help=f"a method, may be repeated (default: {', '.join(DEFAULT_EXPLAINERS)})",
    )
    what.add_argument(
        "--targets",
        default="top1",
        help="classes to explain: top1, top5, topK, all, a class id, or label: that of the image's folder or of the "
        "list (default: %(default)s)",
    )
    what.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")

    run = parser.add_argument_group("the run")
    run.add_argument("--resume", action="store_true", help="go on with an existing run")
    run.add_argument("--no-pixels", action="store_true", help="do not keep the pictures themselves")
    run.add_argument(
        "--store", default="full", choices=("full", "compact"), help="compact leaves out maps that can be rebuilt"
    )
    run.add_argument("--shard-images", type=int, default=256, metavar="N", help="images a file (default: %(default)s)")
    run.add_argument(
        "--batch", type=int, metavar="N", help="images at a time (default: as many as keep the model's chunks full)"
    )

    output = parser.add_argument_group("output")
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")
    output.add_argument("--verbose", action="store_true", help="list every image, not the first ten")
    output.add_argument("--json", action="store_true", help="print the summary as JSON")


def execute(args: argparse.Namespace) -> int:
    """Explain, then print predictions, times and failures."""
    if not args.images:
        raise ArgumentError("IMAGES must name at least one file, folder, glob or list, got none")
    if args.out is None:
        raise ArgumentError("--out must name the folder of the run, for instance --out runs/first")
    out = Path(args.out)
    if (out / "run.json").exists() and not args.resume:
        raise ArgumentError(f"--out must be a new folder, got the run {out}: add --resume to go on with it")

    from fastxai.explainers import as_explainers
    from fastxai.images import open_source
    from fastxai.models import load_model
    from fastxai.pipeline import run
    from fastxai.store import check_out

    # what takes no time is refused before the model is loaded
    check_out(out)
    source = open_source(args.images)
    explainers = as_explainers(args.explainer or DEFAULT_EXPLAINERS)
    model = load_model(
        args.model,
        weights=args.weights,
        device=args.device,
        precision=args.precision,
        compile=COMPILE[args.compile],
        fold=not args.no_fold,
    )
    if not args.quiet:
        each = forecast.bytes_per_image(
            explainers,
            model.preprocess,
            targets=int(args.targets[3:]) if re.fullmatch(r"top\d+", args.targets) else 1,
            pixels=not args.no_pixels,
            compact=args.store == "compact",
        )
        forecast.announce(len(source), each, out)
    with show_progress(quiet=args.quiet) as progress:
        made = run(
            model,
            source,
            explainers,
            out=out,
            resume=args.resume,
            targets=args.targets,
            seed=args.seed,
            progress=progress,
            batch=args.batch,
            shard_images=args.shard_images,
            pixels=not args.no_pixels,
            store=args.store,
        )
    failures = made.failures
    if args.json:
        print(json.dumps(_to_json(made, failures), indent=2))
    elif not args.quiet:
        _print(made, failures, len(made) if args.verbose else SHOWN)
    return FAILED if failures else 0


def _print(made: Run, failures: Mapping[str, str], limit: int) -> None:
    summary = made.summary
    assert summary is not None
    shown = min(limit, len(made))
    rows = []
    for start in range(0, shown, SLICE):
        rows += show.prediction_rows(made.read(start, min(start + SLICE, shown), methods=()))
    if rows:
        print(show.table(["image", "top predictions"], rows, right=()))
    if shown < len(made):
        print(f"... and {len(made) - shown} more (--verbose lists them)")
    print()
    print(show.timings(summary))
    if failures:
        print()
        print(show.failures(failures, limit))
    print()
    print(f"run: {made.path} ({len(made)} images, {summary.skipped} of them from before)")


def _to_json(made: Run, failures: Mapping[str, str]) -> dict[str, Any]:
    assert made.summary is not None
    summary = dataclasses.asdict(made.summary)
    return {"run": str(made.path), "images_in_run": len(made), **summary, "failures": dict(failures)}
