"""Measure fastxai, its limit and the packages that people use today, in turns, on the same work.

    fastxai bench -e lime -e gradcam                      built-in pictures, embedded model, all installed peers
    fastxai bench photos -e gradient-shap --targets top1 --targets all:10 --peers shap,captum --out record.json

Prints images/s, how many times faster than each peer, the share of the limit (bare passes of the same model), peak
memory, and how far results agree. Times are medians; with three rounds of the defaults it takes minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fastxai.cli.explain import COMPILE
from fastxai.errors import ArgumentError

NAME = "bench"
HELP = "measure speed against the limit and against other packages"
DEFAULT_EXPLAINERS = ("lime", "gradient-shap", "gradcam")
PEERS = "lime,shap,captum,grad-cam"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command; `--config` is added by the caller."""
    parser.add_argument("pictures", nargs="*", metavar="IMAGES", help="picture files (default: scikit-image's own)")

    model = parser.add_argument_group("model")
    model.add_argument("--model", default="embedded", metavar="SPEC", help="as for explain (default: %(default)s)")
    model.add_argument("--weights", metavar="FILE", help='safetensors, a state dict, or "random"')
    model.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: %(default)s)")
    model.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    model.add_argument("--compile", default="auto", choices=tuple(COMPILE), help="torch.compile")

    work = parser.add_argument_group("the work")
    work.add_argument(
        "-e",
        "--explainer",
        action="append",
        metavar="METHOD[:OPTION=VALUE,...]",
        help=f"a method, may be repeated (default: {', '.join(DEFAULT_EXPLAINERS)})",
    )
    work.add_argument(
        "--targets",
        action="append",
        metavar="T",
        help="classes explained: top1, topK, or all:N, a sample of N of all classes; may be repeated (default: top1)",
    )
    work.add_argument(
        "--samples", type=int, metavar="N", help="samples an image, where a method draws (default: its own)"
    )
    work.add_argument("--images", type=int, metavar="N", help="pictures measured (default: 16, and 64 for gradcam)")
    work.add_argument("--batch", type=int, metavar="N", help="pictures at a time (default: as explain has it)")
    work.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")

    how = parser.add_argument_group("how it is measured")
    how.add_argument("--peers", default=PEERS, metavar="A,B,...", help='"none", or any of %(default)s (default: all)')
    how.add_argument("--repeat", type=int, default=3, metavar="R", help="rounds of turns (default: %(default)s)")
    how.add_argument(
        "--peer-seconds",
        type=float,
        default=20.0,
        metavar="S",
        help="of a peer's turn: it explains as many pictures as that allows, at least one (default: %(default)s)",
    )
    how.add_argument(
        "--limit-seconds",
        type=float,
        default=3.0,
        metavar="S",
        help="of a turn of bare passes, and at most of each form tried for it (default: %(default)s)",
    )
    how.add_argument("--compared", type=int, default=2, metavar="N", help="pictures compared (default: %(default)s)")
    how.add_argument(
        "--run-images", type=int, default=1000, metavar="N", help="calibrate for a run so long (default: %(default)s)"
    )

    output = parser.add_argument_group("output")
    output.add_argument("-o", "--out", metavar="FILE", help="write the record there, as JSON")
    output.add_argument("--json", action="store_true", help="print the record as JSON")
    output.add_argument("--quiet", action="store_true", help="do not say what is being measured")


def execute(args: argparse.Namespace) -> int:
    """Measure, write the record, print it."""
    out = None if args.out is None else Path(args.out)
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise ArgumentError(f"--out must be a file in a folder that exists, got {args.out}")

    from fastxai.bench import Options, as_text, bench, make_cases

    options = Options(
        images=args.images,
        repeat=args.repeat,
        peers=() if args.peers == "none" else tuple(name.strip() for name in args.peers.split(",")),
        peer_seconds=args.peer_seconds,
        limit_seconds=args.limit_seconds,
        compared=args.compared,
        run_images=args.run_images,
        batch=args.batch,
        seed=args.seed,
    )
    cases, left_out = make_cases(args.explainer or DEFAULT_EXPLAINERS, args.targets or ("top1",), args.samples)
    found = bench(
        args.model,
        cases,
        options,
        images=args.pictures or None,
        left_out=left_out,
        weights=args.weights,
        device=args.device,
        precision=args.precision,
        compile=COMPILE[args.compile],
        say=(lambda line: None) if args.quiet else _say,
    )
    text = json.dumps(found, indent=1, allow_nan=False)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    print(text if args.json else as_text(found))
    return 0


def _say(line: str) -> None:
    print(f"fastxai bench: {line}", file=sys.stderr, flush=True)
