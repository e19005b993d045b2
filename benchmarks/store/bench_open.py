"""Opening a run of a million images by its index, and reading one image of it, against doing so without help.

The run is simulated: 400 shards of 2,500 images whose small columns and 2x2 maps are written directly, without a model.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from fastxai.explainers import GradCam
from fastxai.store import build_index, create_run, describe, open_run
from fastxai.store.chunks import pack
from fastxai.store.files import seal
from fastxai.store.layout import Layout
from fastxai.store.tree import PackedRows, ShardName, build_shard
from fastxai.types import Preprocess, Settings

SHARDS, ROWS = 400, 2500
WORK = f"{SHARDS * ROWS:,} images in {SHARDS} shards"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "million"
    config = describe(
        [GradCam()],
        targets="top1",
        targets_per_image=1,
        seed=0,
        model={"name": "none", "fingerprint": "0"},
        preprocess=Preprocess(size=(16, 16), resize=None),
        pixels=False,
        store="compact",
    )
    create_run(folder, config, Settings(), "simulated")
    layout = Layout(config, config.build_explainers())
    rng = np.random.default_rng(0)
    for number in range(SHARDS):
        image = build_shard(layout, columns(number, rng), ShardName("0", number, 1), ROWS)
        (folder / "shards" / f"part-0-{number:05d}.h5").write_bytes(image + seal(image))
    build_index(folder)
    return folder


def columns(number: int, rng: np.random.Generator) -> dict[str, object]:
    def numbers(dtype: str, *shape: int) -> np.ndarray:
        return rng.integers(0, 1000, (ROWS, *shape)).astype(dtype)

    chunk = pack(np.full((1, 2, 2), number, np.float32))
    return {
        "image/id": [f"folder-{number:05d}/image-{row:05d}.jpeg" for row in range(ROWS)],
        "image/digest": [rng.bytes(16).hex() for _ in range(ROWS)],
        "image/status": np.zeros(ROWS, np.uint8),
        "image/error": [""] * ROWS,
        "image/size": numbers("int32", 2),
        "image/crop": numbers("float32", 4),
        "image/label": numbers("int32"),
        "prediction/classes": numbers("int32", 5),
        "prediction/probabilities": numbers("float32", 5),
        "prediction/targets": numbers("int32", 1),
        "gradcam/native": PackedRows((1, 2, 2), (chunk for _ in range(ROWS))),
    }


def test_open(measure, run):
    opened = open_run(run)
    assert opened.info()["indexed"]
    assert len(opened) == SHARDS * ROWS

    def scan() -> None:
        hidden = run / "index.hidden"
        (run / "index.h5").rename(hidden)
        try:
            open_run(run).close()
        finally:
            hidden.rename(run / "index.h5")

    measure(
        "open_run",
        WORK,
        lambda: open_run(run).close(),
        peer=("without an index", scan),
        limit=("reading the index's bytes", (run / "index.h5").read_bytes),
        rounds=5,
    )


def test_one_image(measure, run):
    opened = open_run(run)
    positions = iter(np.random.default_rng(0).integers(0, len(opened), 10_000).tolist())
    assert float(opened["gradcam"][7 * ROWS + 5].native[0, 0, 0]) == 7

    def plain() -> None:
        shard, row = divmod(next(positions), ROWS)
        with h5py.File(run / "shards" / f"part-0-{shard:05d}.h5") as file:
            file["entry/gradcam/native"][row]

    def opening() -> None:
        (run / "shards" / f"part-0-{next(positions) // ROWS:05d}.h5").read_bytes()

    measure(
        "one image's map",
        f"at random, {WORK}",
        lambda: opened["gradcam"][next(positions)],
        peer=("plain h5py, unchecked", plain),
        limit=("reading the shard's bytes", opening),
        rounds=50,
    )
