"""Runs of tar shards and of data sets with workers: same rows, resumed and shared out like those of files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastxai as fx
from fastxai.distributed import run_share
from fastxai.models import Model

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

SETTINGS = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 4})
METHODS = (fx.GradCam(layer="features.2"),)


def pack(path: Path, pictures: dict[str, torch.Tensor]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, picture in pictures.items():
            data = io.BytesIO()
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(data, "PNG")
            for member, content in ((f"{name}.png", data.getvalue()), (f"{name}.cls", b"3")):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path, noise_pictures) -> str:
    pictures = noise_pictures(10)
    for shard in range(2):
        pack(tmp_path / f"{shard}.tar", {f"{i}": pictures[5 * shard + i] for i in range(5)})
    return str(tmp_path / "{0..1}.tar")


def test_a_run_of_tars_is_the_run_of_their_pictures(
    convolutional: Model, shards: str, tmp_path: Path, noise_pictures
) -> None:
    run = fx.run(convolutional, shards, METHODS, out=tmp_path / "run", settings=SETTINGS, targets="label", batch=4)
    found = fx.explain(convolutional, noise_pictures(10), METHODS, settings=SETTINGS, targets=3, batch=4)
    assert run.ids == tuple(f"{shard}/{i}.png" for shard in range(2) for i in range(5))
    assert run.labels.tolist() == [3] * 10
    assert torch.equal(run.read()["gradcam"].maps, found["gradcam"].maps)
    again = fx.run(convolutional, shards, METHODS, out=tmp_path / "run", resume=True, targets="label")
    assert (again.summary.images, again.summary.skipped) == (0, 10)


def test_a_resume_explains_the_members_that_changed(
    convolutional: Model, shards: str, tmp_path: Path, noise_pictures
) -> None:
    fx.run(convolutional, shards, METHODS, out=tmp_path / "run", settings=SETTINGS).close()
    pictures = noise_pictures(10)
    pack(tmp_path / "1.tar", {f"{i}": 255 - pictures[5 + i] if i == 2 else pictures[5 + i] for i in range(5)})
    run = fx.run(convolutional, shards, METHODS, out=tmp_path / "run", resume=True)
    assert (run.summary.images, run.summary.skipped) == (1, 9)
    assert torch.equal(run.found(["1/2.png"]).images[0], 255 - pictures[7])


def test_tars_are_shared_out_by_id(convolutional: Model, shards: str, tmp_path: Path) -> None:
    parts = []
    for index in range(2):
        options = {"out": tmp_path / "run", "share": f"{index}/2", "settings": SETTINGS}
        parts.append(run_share(convolutional, shards, METHODS, **options).summary.images)
    assert sum(parts) == 10
    assert min(parts) > 0
    whole = fx.explain(convolutional, shards, METHODS, settings=SETTINGS)
    with fx.open_run(tmp_path / "run") as run:
        assert sorted(run.ids) == sorted(whole.ids)
        assert torch.equal(run.found(whole.ids)["gradcam"].maps, whole["gradcam"].maps)


def test_a_run_of_a_data_set_with_workers(convolutional: Model, tmp_path: Path, noise_pictures) -> None:
    dataset = torch.utils.data.TensorDataset(noise_pictures(7), torch.arange(7) % 2)
    found = fx.explain(convolutional, dataset, METHODS, settings=SETTINGS, targets="label", batch=3)
    source = fx.open_source(dataset, workers=2)
    run = fx.run(convolutional, source, METHODS, out=tmp_path / "run", settings=SETTINGS, targets="label", batch=3)
    assert run.ids == found.ids
    assert run.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert torch.equal(run.read()["gradcam"].maps, found["gradcam"].maps)
    again = fx.run(convolutional, source, METHODS, out=tmp_path / "run", resume=True, targets="label")
    assert (again.summary.images, again.summary.skipped) == (0, 7)
    np.testing.assert_array_equal(run.targets[:, 0], np.arange(7) % 2)
