"""LIME step by step, and GradientSHAP with a black baseline, one figure a picture and method.

    scripts/study_lime_steps photos/                                  # the embedded model for both
    scripts/study_lime_steps photos/ --weights inception_v3_google-0cc3c7bd.pth --shap-weights resnet50-11ad3fa6.pth
    scripts/study_lime_steps photos/ --weights download --shap-weights download

LIME: the five predictions, superpixels, perturbed samples, and the ten most influential superpixels; on Inception v3
(299 x 299) where its --weights are given. GradientSHAP: 20 samples from a black baseline; on ResNet-50 (224 x 224)
where its --shap-weights are given. Writes into --out: `lime/` and `shap/` (the runs), `figures/`, `study.json`; prints
what the figures show.
"""

from __future__ import annotations

import argparse
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

INCEPTION, RESNET = "torchvision:inception_v3", "torchvision:resnet50"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="study_lime_steps", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders, globs, or a .txt/.csv list")
    parser.add_argument("--out", metavar="DIR", help="a new folder (default: runs/study-lime-steps-N)")
    parser.add_argument("--weights", metavar="FILE", help=f"of LIME's model, then {INCEPTION}; download, or random")
    parser.add_argument("--model", metavar="SPEC", help="LIME's model, another than these two")
    parser.add_argument("--shap-weights", metavar="FILE", help=f"of SHAP's model, then {RESNET}; download, or random")
    parser.add_argument("--shap-model", metavar="SPEC", help="SHAP's model, another than these two")
    parser.add_argument("--samples", type=int, default=1000, help="of LIME (default: %(default)s)")
    parser.add_argument("--shap-samples", type=int, default=20, help="of GradientSHAP (default: %(default)s)")
    parser.add_argument(
        "--figures", type=int, default=200, metavar="N", help="pictures drawn, the first N (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    add_model_flags(parser)
    return parser.parse_args()


def chosen(model: str | None, weights: str | None, published: str) -> str:
    """The model asked for: by name, the published one where there are weights, else the embedded one."""
    return model or (published if weights is not None else "embedded")


def explained(run: fx.Run, limit: int) -> list[tuple[int, fx.Found]]:
    """The first images that were explained, one at a time, with their place in the run."""
    from fastxai.types import Status

    places = (run.status == int(Status.OK)).nonzero().flatten()[:limit].tolist()
    return [(place, run.read(place, place + 1)) for place in places]


def predictions(found: fx.Found) -> list[dict[str, Any]]:
    """The five best classes."""
    pairs = zip(found.predictions[0].tolist(), found.probabilities[0].tolist(), strict=True)
    return [{"class": c, "name": found.class_name(c), "probability": p} for c, p in pairs if c >= 0]


def lime_record(found: fx.Found) -> dict[str, Any]:
    """What LIME's figure shows, as numbers."""
    from fastxai.report import most_influential

    result = found["lime"]
    return {
        "image": found.ids[0],
        "predictions": predictions(found),
        "segments": int(result.counts[0]),
        "samples": int(result.samples[0]),
        "score": finite(float(result.score[0, 0])),
        "most_influential": [{"segment": s, "weight": w} for s, w in most_influential(result.weights[0, 0])],
    }


def shap_record(found: fx.Found) -> dict[str, Any]:
    """What GradientSHAP's figure shows, as numbers."""
    result = found["gradient-shap"]
    return {
        "image": found.ids[0],
        "predictions": predictions(found),
        "sum": finite(float(result.maps[0, 0].sum())),
        "delta": finite(float(result.delta[0, 0])),
    }


def finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def said(record: dict[str, Any]) -> str:
    """One image in a line or two."""
    top = ", ".join(f"{p['name'].split(',')[0]} {p['probability']:.3f}" for p in record["predictions"])
    if "segments" in record:
        most = ", ".join(f"{one['segment']} ({one['weight']:+.3f})" for one in record["most_influential"])
        return f"{record['image']}: {top}\n    {record['segments']} superpixels; most influential: {most}"
    known = record["sum"] is not None and record["delta"] is not None
    gap = f"attributions sum to {record['sum']:.3f}, off by {record['delta']:+.3f}" if known else "no finite sum"
    return f"{record['image']}: {top}\n    {gap}"


def main() -> int:
    """Explain with both, draw, write, print; the exit status."""
    args = arguments()
    out = out_folder(args.out, "study-lime-steps")
    import fastxai as fx
    from fastxai.errors import CannotRun
    from fastxai.measures.table import printable
    from fastxai.report import lime_steps, save, shap_steps
    from fastxai.report.names import file_stem

    lime = fx.Lime(samples=args.samples)
    shap = fx.GradientShap(samples=args.shap_samples, baseline="black")
    parts = (
        ("lime", chosen(args.model, args.weights, INCEPTION), args.weights, lime, lime_steps, lime_record),
        ("shap", chosen(args.shap_model, args.shap_weights, RESNET), args.shap_weights, shap, shap_steps, shap_record),
    )
    record: dict[str, Any] = {"study": "lime_steps", "seed": args.seed}
    failed = False
    for part, spec, weights, explainer, figure, describe in parts:
        model = load(spec, weights, args)
        run = fx.run(model, args.images, [explainer], out=out / part, seed=args.seed, progress=progress)
        if len(run.failures) == len(run):
            raise CannotRun(f"no picture could be explained: {next(iter(run.failures.values()))}")
        failed = failed or bool(run.failures)
        images = []
        height, width = model.preprocess.size
        print(f"{explainer.name} on {spec}, {height} x {width}")
        for place, found in explained(run, args.figures):
            save(figure(found, 0), out / "figures" / f"{file_stem(place, found.ids[0])}-{part}.png")
            images.append(describe(found))
            print("\n".join(printable(line) for line in said(images[-1]).splitlines()))
        print()
        record[part] = {
            "model": spec,
            "weights": weights,
            "size": [height, width],
            "explainer": run.explainers[0].to_dict(),
            "failures": run.failures,
            "images": images,
        }
    (out / "study.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(f"figures, study.json and both runs: {out}")
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(guarded("study_lime_steps", main))
