"""`fx.agreement` of made-up results: every measure against naive twins, what is left out, and flat memory."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import fastxai as fx
from fastxai import compare
from fastxai.errors import ArgumentError
from fastxai.explainers import GradCam, Lime, Saliency
from fastxai.measures import MEASURES, Agreement, Agreements
from fastxai.results import Found, MethodResult
from fastxai.types import Preprocess, Status

SIZE = (12, 10)
CLASSES = ("cat", "dog", "owl")


def labels_of(generator: torch.Generator, counts: Sequence[int]) -> torch.Tensor:
    return torch.stack([torch.randint(0, n, SIZE, generator=generator, dtype=torch.int32) for n in counts])


def on_segments(name: str, generator: torch.Generator, labels: torch.Tensor, counts: list[int]) -> MethodResult:
    weights = torch.full((len(counts), 2, max(counts)), math.nan)
    for image, count in enumerate(counts):
        weights[image, :, :count] = torch.randn(2, count, generator=generator)
    maps = torch.stack([weights[i][:, labels[i].long()] for i in range(len(counts))])
    return MethodResult(Lime(name=name), {"maps": maps, "weights": weights}, labels, torch.tensor(counts), SIZE)


def results(images: int = 5, seed: int = 0) -> Found:
    """Explanations of two targets by two methods on superpixels (of their own each) and two on pixels."""
    generator = torch.Generator().manual_seed(seed)
    counts, coarse = [14 + i % 3 for i in range(images)], [5] * images
    labels = labels_of(generator, counts)
    cam = torch.randn(images, 2, *SIZE, generator=generator).relu()  # half of the pixels tie
    noise = torch.randn(images, 2, *SIZE, generator=generator)
    return Found(
        ids=tuple(f"birds/{i}.png" for i in range(images)),
        digests=tuple(f"{i:032x}" for i in range(images)),
        status=torch.zeros(images, dtype=torch.uint8),
        errors=("",) * images,
        sizes=torch.ones(images, 2, dtype=torch.int32),
        crops=torch.zeros(images, 4),
        labels=torch.tensor([i % 2 for i in range(images)]),
        images=None,
        predictions=torch.tensor([[2 if i < 3 else 0, 1, -1, -1, -1] for i in range(images)], dtype=torch.int32),
        probabilities=torch.rand(images, 5, generator=generator),
        targets=torch.tensor([[2, 1]] * images),
        methods={
            "gradcam": MethodResult(GradCam(), {"maps": cam, "native": cam[..., :3, :3]}, size=SIZE),
            "lime": on_segments("lime", generator, labels, counts),
            "coarse": on_segments("coarse", generator, labels_of(generator, coarse), coarse),
            "saliency": MethodResult(Saliency(), {"maps": noise}, size=SIZE),
        },
        preprocess=Preprocess(size=SIZE, resize=None),
        seed=0,
        class_names=CLASSES,
    )


@dataclass
class Stored:
    """A run as `agreement` sees it; remembers what was read and how many slices of it are still in memory."""

    found: Found
    reads: list[tuple[int, int, tuple[str, ...] | None]] = field(default_factory=list)
    alive: list[weakref.ref[Found]] = field(default_factory=list)
    most: int = 0

    def __len__(self) -> int:
        return len(self.found)

    def read(self, start: int, stop: int, *, methods: Sequence[str] | None = None) -> Found:
        self.most = max(self.most, sum(ref() is not None for ref in self.alive))
        self.reads.append((start, stop, None if methods is None else tuple(methods)))
        f = self.found
        names = ("ids", "digests", "errors", "status", "sizes", "crops", "labels")
        more = ("predictions", "probabilities", "targets")
        part = replace(
            f,
            **{name: getattr(f, name)[start:stop] for name in (*names, *more)},
            methods={name: f[name][start:stop] for name in (methods if methods is not None else f)},
        )
        self.alive.append(weakref.ref(part))
        return part


def pair(*args: object, **options: object) -> Agreement:
    found = fx.agreement(*args, **options)  # type: ignore[call-overload]
    assert isinstance(found, Agreement)
    return found


def sums(found: Found, name: str, image: int, target: int) -> np.ndarray:
    """A naive twin: sums over LIME's superpixels; a method's own weight is spread over its own superpixel's pixels."""
    common = found["lime"].segments[image].numpy()
    result = found[name]
    values = result.maps[image, target].double().numpy().copy()
    if name == "lime":
        return result.weights[image, target, : int(result.counts[image])].double().numpy()
    if name == "coarse":
        own = result.segments[image].numpy()
        values = values / np.bincount(own.ravel())[own]
    return np.array([values[common == s].sum() for s in range(common.max() + 1)])


def mask(found: Found, name: str, image: int, target: int, top: int = 10, share: float = 0.2) -> np.ndarray:
    result = found[name]
    values = result.maps[image, target].numpy()
    if result.segments is None:
        order = sorted(range(values.size), key=lambda i: (-values.flat[i], i))[: int(share * values.size + 0.5)]
        return np.isin(np.arange(values.size), order)
    weights = result.weights[image, target].tolist()
    best = sorted((i for i, w in enumerate(weights) if w > 0), key=lambda i: -weights[i])[:top]
    return np.isin(result.segments[image].numpy(), best).ravel()


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("names", list(itertools.combinations(("gradcam", "lime", "coarse", "saliency"), 2)))
def test_every_measure_is_that_of_a_naive_twin(names: tuple[str, str], target: int) -> None:
    found = results()
    got = pair(found, *names, measures="all", target=target, top_segments=4)
    assert got.measures == tuple(MEASURES)
    for image in range(len(found)):
        one, two = (mask(found, name, image, target, top=4) for name in names)
        assert got.iou[image] == (one & two).sum() / (one | two).sum()
        assert got.dice[image] == 2 * (one & two).sum() / (one.sum() + two.sum())
        maps = [found[name].maps[image, target].double().numpy().ravel() for name in names]
        # float64 on both sides, summed in another order
        assert got["pearson"][image] == pytest.approx(stats.pearsonr(*maps).statistic, abs=1e-12)
        assert got["spearman"][image] == pytest.approx(stats.spearmanr(*maps).statistic, abs=1e-12)
    if "coarse" not in names or "lime" in names:  # over the superpixels of LIME, which comes first
        for image in range(len(found)):
            one, two = (sums(found, name, image, target) for name in names)
            assert got["segment_pearson"][image] == pytest.approx(stats.pearsonr(one, two).statistic, abs=1e-12)
            assert got["segment_spearman"][image] == pytest.approx(stats.spearmanr(one, two).statistic, abs=1e-12)
            tops = [set(np.argsort(-values, kind="stable")[:4].tolist()) for values in (one, two)]
            assert got["top_overlap"][image] == len(tops[0] & tops[1]) / 4


def test_superpixels_are_those_of_the_first_method_that_has_some() -> None:
    found = results()
    one = pair(found, "coarse", "saliency", measures="segment_pearson")
    own = found["coarse"].segments[0]
    values = np.array([found["saliency"].maps[0, 0][own == s].double().sum() for s in range(5)])
    weights = found["coarse"].weights[0, 0, :5].double().numpy()
    assert one["segment_pearson"][0] == pytest.approx(stats.pearsonr(weights, values).statistic, abs=1e-12)
    # gradcam and saliency have none: LIME's are the run's first
    other = pair(found, "gradcam", "saliency", measures="top_overlap", top_segments=3)
    tops = [set(np.argsort(-sums(found, name, 0, 0), kind="stable")[:3].tolist()) for name in ("gradcam", "saliency")]
    assert other["top_overlap"][0] == len(tops[0] & tops[1]) / 3


def test_a_method_agrees_with_its_double() -> None:
    found = results()
    double = replace(found["lime"], explainer=Lime(name="double"))
    found = replace(found, methods={**found.methods, "double": double})
    got = pair(found, "lime", "double", measures="all")
    assert all(values.tolist() == [1.0] * 5 for values in got.values.values())


def test_rules_change_masks() -> None:
    found = results()
    usual = pair(found, "lime", "gradcam")
    assert usual.rules == {"lime": "top 10 segments", "gradcam": "top 20% of pixels"}
    assert "masks: lime top 10 segments; gradcam top 20% of pixels" in str(usual)
    cut = pair(found, "lime", "gradcam", threshold=0.5)
    assert cut.rules["gradcam"] == "pixels of at least 50% of the maximum"
    for image in range(5):
        cam = found["gradcam"].maps[image, 0].numpy().ravel()
        one, two = mask(found, "lime", image, 0), cam >= 0.5 * cam.max()
        assert cut.iou[image] == (one & two).sum() / (one | two).sum()
    # the top segments of a method on pixels: those of the largest positive sums
    segments = pair(found, "lime", "gradcam", rules={"gradcam": "top_segments=3", "lime": fx.MaskRule(top_segments=3)})
    common = found["lime"].segments[0].numpy()
    best = np.argsort(-sums(found, "gradcam", 0, 0), kind="stable")[:3]
    one, two = mask(found, "lime", 0, 0, top=3), np.isin(common, best).ravel()
    assert segments.iou[0] == (one & two).sum() / (one | two).sum()
    by_pixels = pair(found, "lime", "gradcam", rules={"lime": "top_fraction=0.2"})
    assert by_pixels.rules["lime"] == "top 20% of pixels"


def test_few_positive_segments_are_noted() -> None:
    found = results()
    found["lime"].weights[1, 0] = -1.0
    found["lime"].weights[1, 0, 4] = 1.0
    got = pair(found, "lime", "gradcam", top_segments=2)
    assert got.notes == ("", "lime: only 1 of 2 segments are positive", "", "", "")


def test_failed_images_and_maps_that_are_not_finite_are_counted() -> None:
    found = results()
    whole = pair(found, "lime", "gradcam", measures="all")
    status = found.status.clone()
    status[3] = int(Status.UNREADABLE)
    found["saliency"].maps[3] = math.nan
    found["saliency"].maps[0, 0, 5, 5] = math.nan
    found["saliency"].maps[1, 1] = math.inf  # the other target
    found = replace(found, status=status)
    got = fx.agreement(found, "lime", "gradcam", "saliency", measures="all")
    assert isinstance(got, Agreements)
    both = got["lime", "gradcam"]
    assert both.left_out == {"failed": 1}
    assert both.ids == tuple(f"birds/{i}.png" for i in (0, 1, 2, 4))
    for name in MEASURES:
        torch.testing.assert_close(both[name], whole[name][[0, 1, 2, 4]], rtol=0, atol=0)
    other = got["saliency", "lime"]  # in any order
    assert other.left_out == {"failed": 1, "without a finite map of saliency": 1}
    assert other.ids == ("birds/1.png", "birds/2.png", "birds/4.png")
    assert other.labels is not None
    assert other.labels.tolist() == [1, 0, 0]
    assert "left out: 1 failed, 1 without a finite map of saliency" in str(other)
    assert "left out of their pairs: 1 failed, 1 without a finite map of saliency" in str(got)
    assert not any(values.isnan().any() for values in other.values.values())
    second = pair(found, "lime", "saliency", target=1)
    assert second.left_out == {"failed": 1, "without a finite map of saliency": 1}
    assert second.ids == ("birds/0.png", "birds/2.png", "birds/4.png")


def test_where_nothing_can_be_compared_there_is_nothing() -> None:
    found = results(2)
    got = pair(replace(found, status=torch.full((2,), int(Status.MODEL), dtype=torch.uint8)), "lime", "gradcam")
    assert len(got) == 0
    assert got.left_out == {"failed": 2}
    assert math.isnan(got.mean)
    assert json.dumps(got.to_dict(), allow_nan=False)
    assert str(got)


def test_all_pairs_make_a_matrix() -> None:
    found = results()
    got = fx.agreement(found, measures=["dice", "iou"])
    assert isinstance(got, Agreements)
    assert got.names == ("gradcam", "lime", "coarse", "saliency")
    assert len(got) == 6
    assert got.measures == ("iou", "dice")
    matrix = got.matrix("dice")
    assert torch.equal(matrix, matrix.T)
    assert matrix.diagonal().tolist() == [1.0] * 4
    for i, j in itertools.combinations(range(4), 2):
        alone = pair(found, got.names[i], got.names[j], measures=["iou", "dice"])
        assert matrix[i, j] == alone.summary("dice").mean
        assert torch.equal(got[got.names[i], got.names[j]].iou, alone.iou)
    text = str(got)
    head = next(line for line in text.splitlines() if line.startswith("mean IoU"))
    assert head.split() == ["mean", "IoU", *got.names]
    data = json.loads(json.dumps(got.to_dict(), allow_nan=False))
    assert (data["pairs"][0]["first"], data["pairs"][0]["second"]) == ("gradcam", "lime")
    read = list(csv.DictReader(io.StringIO(got.to_csv())))
    assert len(read) == 6 * 5
    assert float(read[0]["iou"]) == got["gradcam", "lime"].iou[0]
    with pytest.raises(ArgumentError, match="pair must be two different ones of gradcam, lime, coarse, saliency"):
        got["lime", "lime"]


def test_groups_of_labels_and_of_classes() -> None:
    got = pair(results(), "lime", "gradcam")
    by_label = got.by("label")
    assert dict(by_label.images) == {"cat": 3, "dog": 2} or dict(by_label.images) == {"dog": 2, "cat": 3}
    assert by_label["dog"]["iou"].mean == pytest.approx(float(got.iou[[1, 3]].mean()), abs=1e-15)
    assert dict(got.by("class").images) in ({"owl": 3, "cat": 2}, {"cat": 2, "owl": 3})
    row = got.rows()[1]
    assert (row["image"], row["label"], row["class"]) == ("birds/1.png", "dog", "owl")
    bare = replace(got, labels=torch.full((5,), -1))
    assert "label" not in bare.rows()[0]
    with pytest.raises(ArgumentError, match="no image has a label"):
        bare.by("label")


def test_best_and_worst_images() -> None:
    got = pair(results(12), "lime", "gradcam")
    values = got.iou.tolist()
    order = sorted(range(12), key=lambda i: (-values[i], i))
    assert [row["image"] for row in got.best(3)] == [f"birds/{i}.png" for i in order[:3]]
    assert [row["iou"] for row in got.worst(2)] == sorted(values)[:2]
    assert f"most IoU: {', '.join(row['image'] for row in got.best(3))}" in str(got)
    undefined = replace(got, values={"iou": torch.where(got.iou == got.iou.max(), math.nan, got.iou)})
    assert undefined.best(1)[0]["image"] == f"birds/{order[1]}.png"
    with pytest.raises(ArgumentError, match="measure must be one of iou, dice, got 'spearman'"):
        got.best(measure="spearman")


def test_a_table_of_many_images_shows_both_ends() -> None:
    got = pair(results(70), "lime", "gradcam")
    lines = str(got).splitlines()
    shown = [line.split()[0] for line in lines if line.startswith("birds/")]
    assert shown[:10] == [row["image"] for row in got.best(10)]
    assert shown[:-11:-1] == [row["image"] for row in got.worst(10)]
    assert len(shown) == 20
    assert any(line.startswith("... 50 between ...") for line in lines)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_a_run_is_read_in_slices_with_the_same_answer(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SLICE", 64)
    found = results(7)
    whole = pair(found, "gradcam", "coarse", measures="all")
    monkeypatch.setattr(compare, "SLICE", size)
    run = Stored(found)
    told: list[tuple[int, int]] = []
    sliced = pair(run, "gradcam", "coarse", measures="all", progress=lambda done, total: told.append((done, total)))
    for name in MEASURES:
        torch.testing.assert_close(sliced[name], whole[name], rtol=0, atol=0, equal_nan=True)
    assert (sliced.ids, sliced.notes) == (whole.ids, whole.notes)
    assert run.reads[0] == (0, 1, None)  # a look at what there is
    assert all(methods == ("gradcam", "coarse") for _, _, methods in run.reads[1:])
    assert told[-1] == (7, 7)
    assert len(told) == -(-7 // size)


def test_a_method_is_read_for_its_superpixels_only_where_they_are_needed() -> None:
    run = Stored(results(2))
    pair(run, "gradcam", "saliency")
    assert run.reads[-1][2] == ("gradcam", "saliency")
    pair(run, "gradcam", "saliency", measures="top_overlap", top_segments=2)
    assert run.reads[-1][2] == ("gradcam", "saliency", "lime")


def test_memory_is_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SLICE", 4)
    run = Stored(results(40))
    fx.agreement(run, measures="all")
    assert len(run.reads) == 11
    assert run.most <= 2  # the look at the first image, and the slice before: never more, however long the run


def test_maps_from_elsewhere_take_part(tmp_path: Path) -> None:
    found = results()
    for image in (0, 1, 3, 4):
        np.save(tmp_path / f"{image}.npy", found["gradcam"].maps[image, 0].numpy())
    np.save(tmp_path / "4.npy", np.full(SIZE, np.nan))
    got = pair(Stored(found), "lime", external={"theirs": tmp_path}, measures="all")
    ours = pair(found, "lime", "gradcam", measures="all")
    assert (got.first, got.second) == ("lime", "theirs")
    assert got.left_out == {"without a map in theirs": 1, "without a finite map of theirs": 1}
    for name in MEASURES:
        torch.testing.assert_close(got[name], ours[name][[0, 1, 3]], rtol=0, atol=0)
    every = fx.agreement(found, external={"theirs": str(tmp_path)})
    assert isinstance(every, Agreements)
    assert every.names[-1] == "theirs"
    assert every["theirs", "gradcam"].iou.tolist() == [1.0] * 3


def test_maps_from_elsewhere_that_fit_no_image_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.zeros(SIZE))
    with pytest.raises(
        ArgumentError, match="must be named after the images, got 'other' for images like 'birds/0.png'"
    ):
        fx.agreement(results(), "lime", external={"theirs": tmp_path})


@pytest.mark.parametrize(
    ("methods", "options", "message"),
    [
        (("lime", "shap"), {}, "method must be one of gradcam, lime, coarse, saliency, got 'shap'"),
        (("lime",), {}, "methods must be two at least, or all of a run, got lime"),
        (("lime", "lime"), {}, "methods must be different ones, got 'lime' twice"),
        (("lime", "gradcam"), {"measures": "iuo"}, "measures must be one of iou, dice"),
        (("lime", "gradcam"), {"measures": []}, "measures must be some of iou, dice"),
        (("lime", "gradcam"), {"measures": ["all", "iou"]}, "measures must be some of iou, dice"),
        (("lime", "gradcam"), {"target": 2}, "target must be between 0 and 1, got 2"),
        (("lime", "gradcam"), {"rules": {"shap": "threshold=1"}}, "rules must be of methods that are compared"),
        (("lime", "gradcam"), {"rules": {"lime": "best"}}, "rule must look like"),
        (("lime", "gradcam"), {"threshold": 0}, "threshold must be a number above 0"),
        (("lime", "gradcam"), {"external": {"lime": "."}}, "external"),
    ],
)
def test_wrong_questions_are_refused(methods: tuple[str, ...], options: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        fx.agreement(results(), *methods, **options)  # type: ignore[call-overload]


def test_superpixels_are_asked_for_where_there_are_none() -> None:
    found = results()
    found = replace(found, methods={name: found[name] for name in ("gradcam", "saliency")})
    assert pair(found, "gradcam", "saliency", measures="all").measures == ("iou", "dice", "spearman", "pearson")
    for options in ({"measures": "segment_pearson"}, {"rules": {"gradcam": "top_segments=3"}}):
        with pytest.raises(ArgumentError, match="must be asked of results with superpixels"):
            fx.agreement(found, "gradcam", "saliency", **options)  # type: ignore[call-overload]


def test_no_image_is_no_question() -> None:
    with pytest.raises(ArgumentError, match="at least one image, got none"):
        fx.agreement(replace(results(1), ids=()), "lime", "gradcam")
