"""How much methods of a run say the same: overlap of their masks, correlation of their maps, per image and mean.

    fastxai agree runs/x lime gradcam                          two methods, image by image
    fastxai agree runs/x                                       every pair of the run, as a matrix
    fastxai agree runs/x lime gradcam --measures all --by class
    fastxai agree runs/x lime --external theirs=maps/          maps that another tool made

A method on superpixels is made binary by its most positive segments, any other by its top share of pixels, unless
--threshold or --rule say otherwise. Maps from elsewhere are .npy, .npz or grey .png files named after the images, as
large as the model saw these.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastxai.cli.bar import show_bar
from fastxai.errors import ArgumentError, CannotRun

if TYPE_CHECKING:
    from fastxai.measures import Agreement, Agreements, Groups

NAME = "agree"
HELP = "agreement of methods: IoU and more, per image and mean"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="two methods or more (default: all)")
    parser.add_argument(
        "--measures",
        default="iou,dice",
        metavar="NAME,...",
        help="of iou, dice, spearman, pearson, segment_spearman, segment_pearson, top_overlap, or all "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--external",
        action="append",
        default=[],
        metavar="NAME=PLACE",
        help="maps made elsewhere, in a folder or file; may be repeated",
    )
    parser.add_argument(
        "--target", type=int, default=0, metavar="K", help="which of the explained classes, 0 the first"
    )

    rules = parser.add_argument_group("how maps become masks")
    rules.add_argument("--top-segments", type=int, default=10, metavar="N", help="default: %(default)s")
    rules.add_argument("--top-fraction", type=float, default=0.2, metavar="F", help="default: %(default)s")
    rules.add_argument(
        "--threshold", type=float, metavar="F", help="instead of the top fraction: share of a map's largest value"
    )
    rules.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="METHOD:RULE=N",
        help="for one method: top-segments=N, top-fraction=F or threshold=F; may be repeated",
    )

    output = parser.add_argument_group("output")
    output.add_argument("--by", choices=("label", "class"), help="by label, or by predicted class, not image by image")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV, one line an image (or group)")


def execute(args: argparse.Namespace) -> int:
    """Print the agreement as a table, JSON or CSV."""
    external = _pairs("--external", args.external, "=", "NAME=PLACE")
    rules = _pairs("--rule", args.rule, ":", "METHOD:RULE=N")
    measures = [name.strip().replace("-", "_") for name in args.measures.split(",")]

    from fastxai.compare import agreement
    from fastxai.store import open_run

    run = open_run(args.run)
    if not len(run):
        raise CannotRun(f"{args.run} holds no image yet")
    with show_bar("comparing") as bar:
        found = agreement(
            run,
            *args.methods,
            measures=measures,
            top_segments=args.top_segments,
            top_fraction=args.top_fraction,
            threshold=args.threshold,
            rules=dict(rules),
            external=dict(external),
            target=args.target,
            progress=bar,
        )
    if args.by is not None:
        print(_grouped(found, args), end="")
    elif args.json:
        print(json.dumps(found.to_dict(), indent=2))
    elif args.csv:
        print(found.to_csv(), end="")
    else:
        print(found)
    return 0


def _pairs(flag: str, texts: Sequence[str], sign: str, form: str) -> list[tuple[str, str]]:
    """NAME and the rest of every `NAME=...`; `ArgumentError` for another form and for a name that comes twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, there, rest = text.partition(sign)
        if not there or not name.strip() or not rest.strip():
            raise ArgumentError(f"{flag} must look like {form}, got {text!r}")
        if name.strip() in found:
            raise ArgumentError(f"{flag} must name each once, got {name.strip()!r} twice")
        found[name.strip()] = rest.strip()
    return list(found.items())


def _grouped(found: Agreement | Agreements, args: argparse.Namespace) -> str:
    """The groups of every pair, in the form asked for."""
    from fastxai.measures import Agreement
    from fastxai.measures.groups import lines_of

    pairs = [found] if isinstance(found, Agreement) else list(found)
    groups: list[Groups] = [pair.by(args.by) for pair in pairs]
    if args.json:
        data = [
            {"first": pair.first, "second": pair.second, "by": args.by, "groups": group.to_dict()}
            for pair, group in zip(pairs, groups, strict=True)
        ]
        return json.dumps(data[0] if isinstance(found, Agreement) else data, indent=2) + "\n"
    if args.csv:
        names = [{} if isinstance(found, Agreement) else {"first": p.first, "second": p.second} for p in pairs]
        return lines_of([n | row for n, group in zip(names, groups, strict=True) for row in group.rows()])
    parts = []
    for pair, group in zip(pairs, groups, strict=True):
        lines = [f"{pair.first} against {pair.second}: {len(pair):,} images in {len(group):,} groups", *pair.remarks()]
        parts.append("\n".join([*lines, "", str(group)]))
    return "\n\n".join(parts) + "\n"
