"""The HTML report as a file: what it holds, what it may ask for, how large it gets."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from fastxai.compare import agreement
from fastxai.errors import ArgumentError, CannotRun
from fastxai.report import Comparison, ReportOptions, encode, write_report
from fastxai.report import html as html_module
from fastxai.results import Found
from fastxai.store import Run, open_run

Store = Callable[..., Run]


class Page(HTMLParser):
    """Tags with their attributes, the text of scripts and styles, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: dict[str, str] = {}
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.words: list[str] = []
        self._inside: tuple[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag, dict(attrs).get("id")
            if tag == "script" and dict(attrs).get("type") is None:
                self.scripts.append("")
            if tag == "style":
                self.styles.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            self.words.append(data)
        elif self._inside[0] == "style":
            self.styles[-1] += data
        elif self._inside[1] is not None:
            self.blocks[self._inside[1]] = self.blocks.get(self._inside[1], "") + data
        else:
            self.scripts[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def block(self, name: str) -> object:
        return json.loads(self.blocks[name])


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(varied: Found, stored: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return stored(varied, tmp_path_factory.mktemp("runs") / "birds & <b>bees")


@pytest.fixture(scope="module")
def page(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Page:
    out = tmp_path_factory.mktemp("report") / "new" / "report.html"
    written = write_report(run, out)
    assert written.path == out
    assert (written.images, written.whole, written.thumbnails, written.side) == (11, 11, 11, 512)
    assert written.size == out.stat().st_size
    assert [entry.name for entry in out.parent.iterdir()] == ["report.html"]  # nothing half written is left
    return read(out)


def test_the_policy_allows_these_scripts_and_nothing_from_outside(page: Page) -> None:
    policies = [a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv")]
    assert len(policies) == 1
    rules = dict(rule.strip().split(" ", 1) for rule in str(policies[0]).split(";"))
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in page.scripts]
    assert rules["script-src"].split() == hashes
    assert len(page.scripts) == len(html_module.SCRIPTS)
    style = base64.b64encode(hashlib.sha256(page.styles[0].encode()).digest()).decode()
    assert rules["style-src"] == f"'sha256-{style}'"
    assert (rules["default-src"], rules["img-src"], rules["base-uri"]) == ("'none'", "data: blob:", "'none'")


def test_nothing_is_asked_for_from_outside(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)  # no inline handler, which the policy would refuse
            assert name != "style", tag
            if name in ("src", "href"):
                assert str(value).startswith(("#", "data:")), (tag, value)
    for text in (*page.styles, *page.scripts):
        assert not re.search(r"\bimport\b|@import|\bfetch\(|url\(|XMLHttpRequest|WebSocket|innerHTML|eval\(", text)


def test_names_from_outside_are_only_text(page: Page, varied: Found) -> None:
    tags = {tag for tag, _ in page.tags}
    assert not {"img", "i", "b"} & tags
    assert "<i>tabby</i>" in page.text
    assert "cannot be decoded: <b>broken</b>" in page.text
    assert "birds & <b>bees" in page.text
    index = page.block("index")
    assert isinstance(index, dict)
    for given, shown in zip(varied.ids[:-1], index["ids"], strict=True):
        assert shown.isprintable()
        if given.isprintable():
            assert shown == given
    assert "line\\nbreak\\x1b[31m.png" in index["ids"]
    assert "\\u202egpj.right-to-left.png" in index["ids"]
    assert not any("</" in block for block in page.blocks.values())


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def test_the_index_holds_the_numbers_of_the_run(page: Page, varied: Found) -> None:
    index = page.block("index")
    assert isinstance(index, dict)
    assert index["predicted"] == varied.predictions[:-1, 0].tolist()
    assert index["confidence"] == pytest.approx(varied.probabilities[:-1, 0].tolist(), abs=1e-4)
    assert index["labels"] == varied.labels[:-1].tolist()
    assert [method["kind"] for method in index["methods"]] == ["segments", "signed", "positive"]
    assert [method["label"] for method in index["methods"]] == ["LIME", "GradientSHAP", "Grad-CAM"]
    iou, correlation = (floats(index[name]).reshape(11, 3) for name in ("iou", "correlation"))
    for pair, (a, b) in enumerate(index["pairs"]):
        names = [list(varied)[a], list(varied)[b]]
        np.testing.assert_allclose(iou[:, pair], agreement(varied, *names).iou, rtol=1e-6)
        for image in range(11):
            maps = [varied[name].maps[image, 0].flatten().numpy() for name in names]
            assert correlation[image, pair] == pytest.approx(spearmanr(*maps).statistic, abs=1e-6)


def test_the_summary_says_what_the_run_holds(page: Page) -> None:
    for said in ("11 images explained with LIME, GradientSHAP, Grad-CAM", "failed 1", "fingerprint", "ab" * 16):
        assert said in page.text
    assert "Target 1 of 2 is shown" in page.text
    assert "fastxai score RUN" in page.text
    assert "left out to keep this file" not in page.text


def test_a_detail_holds_maps_weights_labels_and_masks(page: Page, varied: Found) -> None:
    detail = page.block("image-2")
    assert isinstance(detail, dict)
    lime, shap, cam = detail["maps"]
    labels = detail["labels"][lime["labels"]]
    assert labels["size"] == [64, 72]
    planes = np.frombuffer(zlib.decompress(base64.b64decode(labels["data"])), dtype=np.uint8).reshape(2, 64, 72)
    steps = planes[0].astype(int) + 256 * planes[1].astype(int)
    segments = varied["lime"].segments
    assert segments is not None
    np.testing.assert_array_equal(np.cumsum(steps, axis=0) % 65536, segments[2])
    count = int(segments[2].max()) + 1
    assert lime["weights"] == pytest.approx(varied["lime"].weights[2, 0, :count].tolist(), rel=1e-4)
    assert lime["limit"] == pytest.approx(float(varied["lime"].weights[2, 0, :count].abs().max()), rel=1e-4)
    assert lime["score"] == pytest.approx(0.83)
    assert set(shap) == set(cam) == {"map", "limit"}
    for name, plane in zip(varied, detail["masks"], strict=True):
        bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(plane["data"])), dtype=np.uint8))
        wanted = Comparison().mask(varied[name][2])[0]
        np.testing.assert_array_equal(bits[: 64 * 72].reshape(64, 72), wanted)


def test_maps_keep_their_values_to_a_few_of_255_steps(page: Page, varied: Found) -> None:
    from io import BytesIO

    from PIL import Image

    detail = page.block("image-0")
    assert isinstance(detail, dict)
    shown = np.asarray(Image.open(BytesIO(base64.b64decode(detail["maps"][2]["map"]))).convert("L"), dtype=float)
    wanted = 255 * varied["gradcam"].maps[0, 0].numpy()
    assert np.abs(shown - wanted).mean() < 4  # WebP at quality 84 of a smooth map: 1.5 at most when this was written


def test_another_target_is_shown(run: Run, varied: Found, tmp_path: Path) -> None:
    write_report(run, tmp_path / "x.html", options=ReportOptions(target=1, title="Second"))
    page = read(tmp_path / "x.html")
    assert "Target 2 of 2 is shown" in page.text
    index = page.block("index")
    assert isinstance(index, dict)
    assert index["targets"] == varied.targets[:-1, 1].tolist()
    wanted = agreement(varied, "lime", "gradcam", target=1).iou
    pair = index["pairs"].index([0, 2])
    np.testing.assert_allclose(floats(index["iou"]).reshape(11, 3)[:, pair], wanted, rtol=1e-6)
    assert any(tag == "title" for tag, _ in page.tags)
    assert "Second · fastxai" in page.text


def test_the_size_is_kept_and_what_is_left_out_is_said(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html_module, "LEVELS", html_module.LEVELS[:1])
    whole = write_report(run, tmp_path / "whole.html")
    limit = whole.size - 20_000
    less = write_report(run, tmp_path / "less.html", options=ReportOptions(max_size=limit))
    assert less.size <= limit
    assert less.whole < less.thumbnails == less.images == 11
    page = read(tmp_path / "less.html")
    assert f"Maps of {11 - less.whole} of 11 images were left out" in page.text
    names = [name for name in page.blocks if name.startswith("image-")]
    assert names == [f"image-{number}" for number in range(less.whole)]
    shell = less.size - sum(len(page.blocks[name]) for name in page.blocks if name != "index")
    tiny = write_report(run, tmp_path / "tiny.html", options=ReportOptions(max_size=shell + 1_000))
    assert tiny.size <= shell + 1_000
    assert (tiny.whole, tiny.thumbnails) == (0, 0)
    assert "Thumbnails of 11 images were left out" in read(tmp_path / "tiny.html").text
    with pytest.raises(ArgumentError, match="max_size must be at least .* for this run, got 30 kB"):
        write_report(run, tmp_path / "none.html", options=ReportOptions(max_size=30_000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["less.html", "tiny.html", "whole.html"]


def test_pictures_are_kept_less_finely_before_anything_is_left_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = tuple(replace(level, side=side) for level, side in zip(html_module.LEVELS, (512, 40, 20), strict=False))
    monkeypatch.setattr(html_module, "LEVELS", levels)
    whole = write_report(run, tmp_path / "whole.html")
    less = write_report(run, tmp_path / "less.html", options=ReportOptions(max_size=int(0.9 * whole.size)))
    assert less.whole == less.images
    assert less.side < whole.side
    assert less.size <= 0.9 * whole.size
    page = read(tmp_path / "less.html")
    assert f"kept at {less.side} pixels" in page.text
    detail = page.block("image-3")
    assert isinstance(detail, dict)
    assert max(detail["labels"][0]["size"]) == less.side


def test_a_run_is_read_in_small_slices(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[int, int]] = []
    original = Run.read

    def watched(self: Run, start: int = 0, stop: int | None = None, **options: object) -> Found:
        reads.append((start, stop if stop is not None else len(self)))
        return original(self, start, stop, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "read", watched)
    write_report(run, tmp_path / "usual.html")
    monkeypatch.setattr(html_module, "_AT_ONCE", 1)
    reads.clear()
    write_report(run, tmp_path / "one.html")
    assert max(stop - start for start, stop in reads) == 1
    assert (tmp_path / "usual.html").read_bytes() == (tmp_path / "one.html").read_bytes()


def test_scores_are_shown_with_their_intervals(varied: Found, stored: Store, tmp_path: Path) -> None:
    run = stored(varied, tmp_path / "run")
    row = {"measure": "deletion <b>", "method": "lime", "mean": 0.25, "interval": [0.2, 0.3], "count": 11}
    against = {"mean": -0.1, "interval": [-0.15, -0.05]}
    better = {**row, "better": "lower", "difference": against, "verdict": "better"}
    unsure = {**row, "method": "gone", "better": "lower", "difference": {"mean": 0.01, "interval": [-0.1, 0.2]}}
    data = {
        "schema": 1,
        "run": run.config.digest,
        "rows": [better, unsure, {**row, "measure": "plain", "interval": None, "mean": None}],
        "values": {"deletion <b>": {"about": "the less, the better"}},
    }
    (run.path / "scores.json").write_text(json.dumps(data))
    write_report(run, tmp_path / "x.html")
    page = read(tmp_path / "x.html")
    for said in ("deletion <b>", "0.2000 to 0.3000", "-0.1000 (better than random)", "+0.0100 -0.1000 to 0.2000"):
        assert said in page.text
    assert "the less, the better" in page.text
    assert "Not measured yet" not in page.text
    for changed, message in (
        ({"rows": [{"measure": 1}]}, "does not hold scores"),
        ({"schema": 2}, "has schema 2, this version reads 1"),
        ({"run": "other"}, "is about another run"),
    ):
        (run.path / "scores.json").write_text(json.dumps(data | changed))
        with pytest.raises(CannotRun, match=message):
            write_report(run, tmp_path / "y.html")
    assert not (tmp_path / "y.html").exists()


def test_runs_without_pixels_methods_or_good_images(varied: Found, stored: Store, tmp_path: Path) -> None:
    bare = stored(varied, tmp_path / "bare", pixels=False)
    written = write_report(bare, tmp_path / "bare.html")
    assert (written.whole, written.thumbnails) == (11, 0)
    page = read(tmp_path / "bare.html")
    assert "made without pixels" in page.text
    assert page.block("image-0")["picture"] is None  # type: ignore[index]
    single = stored(replace(varied, methods={"gradcam": varied["gradcam"]}), tmp_path / "single")
    write_report(single, tmp_path / "single.html")
    assert "agree?" not in read(tmp_path / "single.html").text
    failed = replace(varied, status=torch.ones_like(varied.status), errors=("broken",) * len(varied))
    assert write_report(stored(failed, tmp_path / "failed"), tmp_path / "failed.html").images == 0
    assert "failed 12" in read(tmp_path / "failed.html").text


def test_a_map_that_is_not_finite_is_left_out(varied: Found, stored: Store, tmp_path: Path) -> None:
    shap = varied["gradient-shap"]
    maps = shap.maps.clone()
    maps[0] = float("nan")
    broken = replace(varied, methods={**varied.methods, "gradient-shap": replace(shap, data={"maps": maps})})
    write_report(stored(broken, tmp_path / "run"), tmp_path / "x.html")
    page = read(tmp_path / "x.html")
    detail, index = page.block("image-0"), page.block("index")
    assert isinstance(detail, dict)
    assert isinstance(index, dict)
    assert [entry is None for entry in detail["maps"]] == [entry is None for entry in detail["masks"]]
    assert detail["maps"][1] is None
    iou = floats(index["iou"]).reshape(11, 3)
    assert np.isnan(iou).tolist() == [[True, False, True]] + [[False] * 3] * 10


def test_wrong_arguments_are_refused_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "x.html"
    for options, message in (
        (ReportOptions(target=2), "target must be between 0 and 1, got 2"),
        (ReportOptions(compare=Comparison("lime", "shap")), "method must be one of lime, gradient-shap, gradcam"),
    ):
        with pytest.raises(ArgumentError, match=message):
            write_report(run, out, options=options)
    with pytest.raises(ArgumentError, match="max_size must be at least 1, got 0"):
        ReportOptions(max_size=0)
    assert not out.exists()


def test_an_exported_file_has_a_report_too(run: Run, tmp_path: Path) -> None:
    from fastxai.store import export_run

    path = export_run(run.path, tmp_path / "all.h5")
    assert write_report(open_run(path), tmp_path / "x.html").images == 11


def test_labels_above_a_byte_survive_thinning() -> None:
    labels = (np.arange(40 * 50) * 3).reshape(40, 50)
    thin = encode.thinned(labels, 10)
    assert thin.shape == (8, 10)
    assert set(thin.flatten()) <= set(labels.flatten())
    planes = np.frombuffer(zlib.decompress(base64.b64decode(encode.labels(thin))), dtype=np.uint8).reshape(2, 8, 10)
    np.testing.assert_array_equal(np.cumsum(planes[0] + 256 * planes[1].astype(int), axis=0) % 65536, thin)
