"""The progress callback, as its docstring promises it to callers with bars of their own."""

from __future__ import annotations

import inspect
import io
import textwrap
import threading
from pathlib import Path

import pytest
import torch

import fastxai as fx
from fastxai.models import Model

SETTINGS = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 4})
METHODS = (fx.Lime(samples=10, segments="grid(rows=2,columns=2)"), fx.GradCam(layer="features.2"))


def example() -> str:
    """The code in the docstring of `fastxai.Progress`."""
    text = inspect.getdoc(fx.Progress)
    return textwrap.dedent(text[text.index("    from tqdm") :])


def test_the_example_with_tqdm_runs(convolutional: Model, noise_pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = pytest.importorskip("tqdm")
    drawn = io.StringIO()
    bars: list[object] = []

    class Bar(tqdm.tqdm):
        def __init__(self, **options: object) -> None:
            super().__init__(file=drawn, mininterval=0, **options)
            bars.append(self)

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    names = {"fx": fx, "model": convolutional, "images": noise_pictures(5)}
    exec(example(), names)
    assert len(names["found"]) == 5
    (bar,) = bars
    assert (bar.n, bar.total) == (5, 5)
    assert "5/5" in drawn.getvalue()
    assert "image/s" in drawn.getvalue() or "s/image" in drawn.getvalue()


def test_it_is_called_in_the_callers_thread_from_the_start_to_the_end(
    convolutional: Model, noise_pictures, tmp_path: Path
) -> None:
    seen: list[tuple[threading.Thread, fx.Progress]] = []
    options = {"settings": SETTINGS, "progress": lambda now: seen.append((threading.current_thread(), now))}
    fx.run(convolutional, noise_pictures(5), METHODS, out=tmp_path / "run", batch=2, **options).close()
    assert {thread for thread, _ in seen} == {threading.current_thread()}
    told = [now for _, now in seen]
    assert (told[0].images, told[0].images_total, told[0].rows) == (0, 5, 0)
    assert [now.images for now in told if not now.method][1:] == [2, 4, 5]  # after every batch
    assert {now.method for now in told} == {"", "predict", "lime"}
    assert [now.seconds for now in told] == sorted(now.seconds for now in told)
    assert told[-1].seconds_left == 0


def test_the_total_falls_as_a_resumed_run_meets_what_is_done(
    convolutional: Model, noise_pictures, tmp_path: Path
) -> None:
    pictures = noise_pictures(6)
    out = tmp_path / "run"
    fx.run(convolutional, pictures[:1], METHODS, out=out, settings=SETTINGS).close()
    seen: list[fx.Progress] = []
    fx.run(convolutional, pictures, METHODS, out=out, resume=True, progress=seen.append).close()
    assert seen[0].images_total == 6
    assert (seen[-1].images, seen[-1].images_total) == (5, 5)


def test_what_it_raises_ends_the_call_and_complete_shards_stay(
    convolutional: Model, noise_pictures, tmp_path: Path
) -> None:
    def enough(now: fx.Progress) -> None:
        if now.images == 4:
            raise LookupError("enough")

    options = {"settings": SETTINGS, "batch": 1, "shard_images": 1}
    with pytest.raises(LookupError, match="enough"):
        fx.run(convolutional, noise_pictures(6), METHODS, out=tmp_path / "run", progress=enough, **options)
    kept = fx.open_run(tmp_path / "run")
    assert 1 <= len(kept) <= 4
    whole = fx.run(convolutional, noise_pictures(6), METHODS, out=tmp_path / "run", resume=True, batch=1)
    assert len(whole) == 6
    assert torch.isfinite(whole.read()["lime"].maps).all()
