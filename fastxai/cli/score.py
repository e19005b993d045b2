"""How faithful the maps of a run are to its model, per method, against random maps; kept in RUN/scores.json.

    fastxai score runs/photos -m deletion -m 'insertion:fill=mean' -m 'deletion:segments=grid,name=cells'

Measures: deletion, insertion, aopc, sensitivity-n, mu-fidelity, infidelity (changed pictures); sanity (randomised
weights) and stability (other seeds) explain the pictures again. What LIME (r2) and GradientSHAP (gap) say about
themselves is there always. A file that is there is replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys

from fastxai.cli.progress import show_progress
from fastxai.errors import ArgumentError

NAME = "score"
HELP = "how faithful the maps of a run are"
MEASURES = ("deletion", "insertion", "mu-fidelity")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a run, or a file that `fastxai export` wrote")
    parser.add_argument(
        "-m",
        "--measure",
        action="append",
        metavar="MEASURE[:OPTION=VALUE,...]",
        help=f"may be repeated (default: {', '.join(MEASURES)})",
    )
    parser.add_argument("--methods", nargs="+", action="extend", metavar="NAME", help="only these methods")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ids", nargs="+", action="extend", metavar="ID", help="only these images")
    which.add_argument("--images", type=int, metavar="N", help="only the first N images")
    parser.add_argument(
        "--reference",
        metavar="random[:OPTION=VALUE,...]",
        help="the noise to compare with, for instance random:segments=grid,name=cells (default: a number a pixel)",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="images at a time")

    model = parser.add_argument_group("model (that of the run: its fingerprint is checked)")
    model.add_argument("--model", default="embedded", metavar="SPEC", help="as for explain (default: %(default)s)")
    model.add_argument("--weights", metavar="FILE", help="safetensors or a state dict, instead of a download")
    model.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: %(default)s)")

    output = parser.add_argument_group("output")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV, one line an image and method")
    output.add_argument("-o", "--out", metavar="FILE.json", help="keep the scores there, not beside the run")
    output.add_argument("--quiet", action="store_true", help="show no progress")


def execute(args: argparse.Namespace) -> int:
    """Score, keep what was found, and print it."""
    from fastxai.explainers import EXPLAINERS, Random
    from fastxai.models import load_model
    from fastxai.scoring import score, write_scores
    from fastxai.store import open_run

    reference = None if args.reference is None else EXPLAINERS.parse(args.reference)
    if reference is not None and not isinstance(reference, Random):
        raise ArgumentError(f"--reference must be random with options, got {args.reference!r}")
    # stdout is for results: what models and libraries print stays out of them
    with open_run(args.run) as run, contextlib.redirect_stdout(sys.stderr):
        model = load_model(args.model, weights=args.weights, device=args.device)
        with show_progress(quiet=args.quiet) as progress:
            found = score(
                run,
                model,
                tuple(args.measure or MEASURES),
                methods=args.methods,
                images=args.ids or args.images,
                reference=reference,
                batch=args.batch,
                progress=progress,
            )
        path = write_scores(run, found, args.out)
    if args.json:
        print(json.dumps(found.to_dict(), indent=2))
    elif args.csv:
        print(found.to_csv(), end="")
    else:
        print(found)
        print(f"scores: {path}")
    return 0
