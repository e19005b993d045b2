"""LIME against Grad-CAM on pictures: where they agree, how much, and on which kinds of picture they agree more.

    scripts/study_agreement photos/                                   # the embedded model
    scripts/study_agreement photos/ --model torchvision:resnet50 --weights resnet50.pth

Masks are LIME's ten most positive superpixels and Grad-CAM's top fifth of the pixels; agreement is their IoU. Writes
into --out: `run/` (as of `fastxai explain`), `figures/` (a picture, both methods and both masks, one an image),
`relations.png`, `images.csv`, `study.json`; prints the tables.

A relation is Spearman's rank correlation of the IoU with a trait of the picture over all pictures, with a bootstrap
interval. Four are looked at, and the intervals are not widened for that.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]
sys.dont_write_bytecode = True

from common import add_model_flags, guarded, load, out_folder, progress  # noqa: E402

if TYPE_CHECKING:
    import fastxai as fx


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="study_agreement", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders, globs, or a .txt/.csv list")
    parser.add_argument("--out", metavar="DIR", help="a new folder (default: runs/study-agreement-N)")
    parser.add_argument("--model", default="embedded", metavar="SPEC", help="default: %(default)s")
    parser.add_argument("--weights", metavar="FILE", help="of the model, instead of its source's own; or random")
    parser.add_argument("--samples", type=int, default=1000, help="of LIME (default: %(default)s)")
    parser.add_argument("--top-segments", type=int, default=10, help="of LIME's mask (default: %(default)s)")
    parser.add_argument("--top-fraction", type=float, default=0.2, help="of Grad-CAM's mask (default: %(default)s)")
    parser.add_argument(
        "--figures", type=int, default=200, metavar="N", help="pictures drawn, the first N (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    add_model_flags(parser)
    return parser.parse_args()


def image_rows(run: fx.Run, found: fx.Agreement) -> list[dict[str, Any]]:
    """One row an image: its IoU and its traits."""
    from fastxai.measures import colour_entropy, edge_density

    rows = []
    for image, iou in zip(found.ids, found.iou.tolist(), strict=True):
        one = run.found([image], methods=["lime"])
        best = int(one.predictions[0, 0])
        rows.append(
            {
                "image": image,
                "class": one.class_name(best),
                "iou": iou,
                "edge_density": edge_density(one.images[0]),
                "colour_entropy": colour_entropy(one.images[0]),
                "segments": int(one["lime"].counts[0]),
                "confidence": float(one.probabilities[0, 0]),
            }
        )
    return rows


def draw_figures(run: fx.Run, found: fx.Agreement, args: argparse.Namespace, folder: Path) -> None:
    """Four panels for each of the first images."""
    from fastxai.report import Comparison, four_panels, save
    from fastxai.report.names import file_stem

    compare = Comparison("lime", "gradcam", args.top_segments, args.top_fraction)
    for number, image in enumerate(found.ids[: args.figures]):
        save(four_panels(run.found([image]), 0, compare=compare), folder / f"{file_stem(number, image)}.png")


def tables(found: fx.Agreement, rows: list[dict[str, Any]], relations: dict[str, fx.measures.Relation]) -> str:
    """The figures as text."""
    from fastxai.measures import TRAITS
    from fastxai.measures.table import align
    from fastxai.measures.text import between, number

    head = ["image", "IoU", *TRAITS.values()]
    body = [
        [
            r["image"],
            number(r["iou"]),
            number(r["edge_density"]),
            f"{r['colour_entropy']:.2f}",
            str(r["segments"]),
            f"{r['confidence']:.3f}",
        ]
        for r in rows[:50]
    ]
    feet = [["mean", number(found.mean)], ["95% interval of the mean", between(found.interval)]]
    lines = [f"lime against gradcam: {len(found):,} images", *found.remarks(), ""]
    lines.append(align(head, body, feet, right=range(1, len(head))))
    if len(rows) > len(body):
        lines.append(f"... and {len(rows) - len(body):,} more images in images.csv")
    lines += ["", "Which pictures agree more? Spearman's rank correlation of the IoU with"]
    head = ["trait", "images", "rho", "95% interval", "says"]
    body = [
        [TRAITS[name], str(r.count), number(r.rho), between(r.interval), verdict(r)] for name, r in relations.items()
    ]
    lines.append(align(head, body, right=range(1, 4)))
    return "\n".join(lines)


def verdict(relation: fx.measures.Relation) -> str:
    """What the interval lets one say."""
    if relation.interval is None:
        return "too few images to say"
    low, high = relation.interval
    if low > 0 or high < 0:
        return "more agreement where there is more of it" if low > 0 else "less agreement where there is more of it"
    return "undecided: the interval holds 0"


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """One line an image."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> int:
    """Explain, compare, draw, write, print; the exit status."""
    args = arguments()
    out = out_folder(args.out, "study-agreement")
    import fastxai as fx
    from fastxai.errors import CannotRun
    from fastxai.measures import TRAITS, relate
    from fastxai.report import save, scatter

    model = load(args.model, args.weights, args)
    explainers = [fx.Lime(samples=args.samples), fx.GradCam()]
    run = fx.run(model, args.images, explainers, out=out / "run", seed=args.seed, progress=progress)
    if len(run.failures) == len(run):
        raise CannotRun(f"no picture could be explained: {next(iter(run.failures.values()))}")
    found = fx.agreement(run, "lime", "gradcam", top_segments=args.top_segments, top_fraction=args.top_fraction)
    rows = image_rows(run, found)
    if not rows:
        raise CannotRun("no picture has finite maps of both methods")
    columns = {name: [float(row[name]) for row in rows] for name in TRAITS}
    relations = {name: relate(column, found.iou.tolist()) for name, column in columns.items()}
    draw_figures(run, found, args, out / "figures")
    save(
        scatter(
            found.iou.tolist(),
            "IoU of LIME and Grad-CAM",
            {TRAITS[name]: column for name, column in columns.items()},
            {TRAITS[name]: relation for name, relation in relations.items()},
        ),
        out / "relations.png",
    )
    write_csv(out / "images.csv", rows)
    summary = found.to_dict()
    record = {
        "study": "agreement",
        "model": args.model,
        "weights": args.weights,
        "seed": args.seed,
        "explainers": [explainer.to_dict() for explainer in run.explainers],
        "rules": summary["rules"],
        "confidence": summary["confidence"],
        "iou": summary["iou"],
        "left_out": summary["left_out"],
        "failures": run.failures,
        "relations": {name: relation.to_dict() for name, relation in relations.items()},
        "images": [row | {"iou": None if math.isnan(row["iou"]) else row["iou"]} for row in rows],
    }
    (out / "study.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(tables(found, rows, relations))
    print(f"\nfigures, relations.png, images.csv, study.json and run: {out}")
    return 3 if run.failures else 0


if __name__ == "__main__":
    sys.exit(guarded("study_agreement", main))
