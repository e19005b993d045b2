"""Explain images and keep everything in a run.

IMAGES are files, folders (with all below), globs, a text or CSV list, tar shards in webdataset's layout
('shards/{000..012}.tar', with labels from .cls and .json members), or a map-style data set as package.module:name.
A method may be given options:

    fastxai explain photos -e 'lime:samples=500,segments=slic(segments=80)' -e gradcam --out runs/photos

Ctrl-C (or SIGTERM) ends a run in order: what is finished is kept, and --resume goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastxai.cli import forecast, show
from fastxai.cli.progress import show_progress
from fastxai.cli.signals import stoppable
from fastxai.errors import ArgumentError, CannotRun
from fastxai.overlap import Stop, Stopped

if TYPE_CHECKING:
    from fastxai.distributed import Job, Share
    from fastxai.models import Model
    from fastxai.store import Run

NAME = "explain"
HELP = "explain images, into a run"
DEFAULT_EXPLAINERS = ("lime", "gradient-shap", "gradcam")
SLICE = 64  # images read at a time: their pixels come along
SHOWN = 10  # images listed without --verbose
COMPILE: dict[str, bool | str] = {"auto": "auto", "on": True, "off": False}
FAILED = 3
AUTO = "auto"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command; `--config` is added by the caller."""
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGES",
        help="files, folders, globs, .txt/.csv lists, .tar shards, module:DATA_SET",
    )
    parser.add_argument("-o", "--out", metavar="RUN", help="folder of the run (required)")
    parser.add_argument(
        "--dataset-workers", type=int, default=0, metavar="N", help="processes that fetch the items of a data set"
    )

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        default="embedded",
        metavar="SPEC",
        help="embedded (needs no download), embedded:lite1, torchvision:NAME, timm:NAME, hf:NAME, "
        "package.module:factory, or NAME:... of a source that a plugin adds (default: %(default)s)",
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
    run.add_argument("--retry-failed", action="store_true", help="with --resume: explain failed images again")
    run.add_argument("--no-pixels", action="store_true", help="do not keep the pictures themselves")
    run.add_argument(
        "--store", default="full", choices=("full", "compact"), help="compact leaves out maps that can be rebuilt"
    )
    run.add_argument("--shard-images", type=int, default=256, metavar="N", help="images a file (default: %(default)s)")
    run.add_argument(
        "--batch", type=int, metavar="N", help="images at a time (default: as many as keep the model's chunks full)"
    )

    many = parser.add_argument_group("many workers, one run")
    many.add_argument("--workers", type=int, metavar="N", help="processes on this machine, or actors with --ray")
    many.add_argument(
        "--shard",
        metavar="i/N",
        help="explain part i (from 0) of N only, into a run that the other parts write too; auto: as SLURM or torchrun "
        "say",
    )
    many.add_argument(
        "--ray",
        nargs="?",
        const=AUTO,
        metavar="ADDRESS",
        help="workers in the Ray cluster at host:port or ray://host:port; without an address in that of RAY_ADDRESS, "
        "or in one on this machine (write --ray=ADDRESS in front of IMAGES)",
    )

    output = parser.add_argument_group("output")
    output.add_argument("--quiet", action="store_true", help="print nothing but errors")
    output.add_argument("--verbose", action="store_true", help="list every image, not the first ten")
    output.add_argument("--json", action="store_true", help="print the summary as JSON")


def execute(args: argparse.Namespace) -> int:
    """Explain, then print predictions, times and failures."""
    _check(args)
    # stdout is for results: what models and libraries print stays out of them
    with stoppable() as stop, contextlib.redirect_stdout(sys.stderr):
        try:
            made = _explain(args, stop)
        except (Stopped, KeyboardInterrupt) as stopped:
            begun = Path(args.out, "run.json").exists()
            what = f"what is finished is in {args.out}, --resume goes on" if begun else "nothing was begun"
            raise KeyboardInterrupt(f"interrupted: {what}") from stopped
    failures = made.failures
    if args.json:
        print(json.dumps(_to_json(made, failures), indent=2))
    elif not args.quiet:
        _print(made, failures, len(made) if args.verbose else SHOWN)
    return FAILED if failures else 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what can be refused before anything heavy is loaded."""
    if not args.images:
        raise ArgumentError("IMAGES must name at least one file, folder, glob or list, got none")
    if args.out is None:
        raise ArgumentError("--out must name the folder of the run, for instance --out runs/first")
    if args.dataset_workers < 0:
        raise ArgumentError(f"--dataset-workers must be at least 0, got {args.dataset_workers}")
    if args.workers is not None and args.workers < 1:
        raise ArgumentError(f"--workers must be at least 1, got {args.workers}")
    if args.shard is not None and (args.workers is not None or args.ray is not None):
        raise ArgumentError("--shard must stand without --workers and --ray, which share out the images themselves")
    if args.ray is not None and args.ray not in (AUTO, "local") and not re.fullmatch(r"(ray://)?[^/]+:\d+", args.ray):
        raise ArgumentError(f"--ray must be host:port, ray://host:port, local or without an address, got {args.ray!r}")
    resumes = args.resume or args.shard is not None  # a share joins the run that others began
    if args.retry_failed and not resumes:
        raise ArgumentError("--retry-failed must come with --resume")
    out = Path(args.out)
    if (out / "run.json").exists() and not resumes:
        raise ArgumentError(f"--out must be a new folder, got the run {out}: add --resume to go on with it")


def _explain(args: argparse.Namespace, stop: Stop) -> Run:
    """Do the job here, in processes, or in Ray."""
    from fastxai.distributed import lost_device, run_local, run_on_ray
    from fastxai.store import check_out

    # what takes no time is refused before the model is loaded
    check_out(args.out)
    job, share = _job(args)
    images, explainers = len(job.open_source()), job.build_explainers()
    with show_progress(quiet=args.quiet) as progress:
        if args.ray is not None:
            address = None if args.ray == AUTO else args.ray
            return run_on_ray(job, args.workers or 1, address, progress=progress, stop=stop)
        model = job.load_model()
        if not args.quiet:
            _announce(args, model, images if share is None else images // share.count, explainers)
        if args.workers is not None:
            return run_local(job, args.workers, model=model, progress=progress, stop=stop)
        try:
            return job.run(share, model=model, progress=progress, stop=stop)
        except RuntimeError as error:
            if not lost_device(error):
                raise
            raise CannotRun(
                f"the GPU failed ({error}); what was finished is in {args.out}, --resume goes on"
            ) from error


def _job(args: argparse.Namespace) -> tuple[Job, Share | None]:
    """What is to be done, and the share of it that is this process's own; None for all."""
    from fastxai.distributed import Job, Share, device_here, share_here

    share = device = None
    if args.shard == AUTO:
        share, device = share_here(os.environ), device_here(args.device, os.environ)
        if not args.quiet:
            print(f"fastxai: share {share}", file=sys.stderr)
    elif args.shard is not None:
        share = Share.parse(args.shard)
    job = Job(
        images=tuple(args.images),
        out=args.out,
        explainers=tuple(args.explainer or DEFAULT_EXPLAINERS),
        model=args.model,
        weights=args.weights,
        device=device or args.device,
        precision=args.precision,
        compile=COMPILE[args.compile],
        fold=not args.no_fold,
        targets=args.targets,
        seed=args.seed,
        batch=args.batch,
        shard_images=args.shard_images,
        pixels=not args.no_pixels,
        store=args.store,
        resume=args.resume,
        retry_failed=args.retry_failed,
        loaders=args.dataset_workers,
    )
    return job, share


def _announce(args: argparse.Namespace, model: Model, images: int, explainers: Any) -> None:
    each = forecast.bytes_per_image(
        explainers,
        model.preprocess,
        targets=int(args.targets[3:]) if re.fullmatch(r"top\d+", args.targets) else 1,
        pixels=not args.no_pixels,
        compact=args.store == "compact",
    )
    forecast.announce(images, each, Path(args.out))


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
