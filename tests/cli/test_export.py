"""export, verify, index and info on a small run, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import fastxai as fx
from fastxai.cli import main
from fastxai.models import Model


@pytest.fixture
def run(convolutional: Model, noise_pictures: object, tmp_path: Path) -> Path:
    explainers = [fx.GradCam(layer="features.2"), fx.Lime(samples=8, segments="grid(rows=2,columns=2)")]
    pictures = noise_pictures(5)
    fx.run(convolutional, pictures, explainers, out=tmp_path / "run", shard_images=2).close()
    return tmp_path / "run"


def test_export_and_open(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "one.h5"
    assert main(["export", str(run), "-o", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert torch.equal(fx.open_run(out).read()["lime"].maps, fx.open_run(run).read()["lime"].maps)
    assert main(["verify", str(out)]) == 0
    assert "all is well" in capsys.readouterr().out
    assert main(["info", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 5
    assert main(["agree", str(out), "lime", "gradcam", "--top-segments", "2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["images"]) == 5


def test_export_a_part(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = fx.open_run(run).ids
    out = tmp_path / "one.h5"
    argv = ["export", str(run), "-o", str(out), "--ids", ids[3], ids[0], "--methods", "gradcam", "--no-pixels"]
    assert main(argv) == 0
    one = fx.open_run(out)
    assert (one.ids, one.methods, one.config.pixels) == ((ids[0], ids[3]), ("gradcam",), False)
    assert main(argv) == 2
    assert "out must be a new file" in capsys.readouterr().err
    assert main(["export", str(run)]) == 2
    assert "--out must name the new file" in capsys.readouterr().err
    assert main(["export", str(run), "-o", str(tmp_path / "b.h5"), "--ids", "nobody"]) == 2
    assert "got 'nobody'" in capsys.readouterr().err


def test_index_says_what_is_missing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(run)]) == 0
    assert "missing" not in capsys.readouterr().out
    for number in (0, 2):
        (run / "shards" / f"part-0-0000{number}.h5").unlink()
    assert main(["index", str(run)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "shards/part-0-00000.h5 is missing: there are later ones of its worker",
        "shards/part-0-00002.h5 is missing: the index before names it",
        f"index: {run / 'index.h5'}",
    ]
    assert main(["verify", str(run), "--json"]) == 1
    assert [problem["file"] for problem in json.loads(capsys.readouterr().out)] == ["shards/part-0-00000.h5"]


def test_verify_names_the_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = run / "shards" / "part-0-00001.h5"
    broken = bytearray(shard.read_bytes())
    broken[len(broken) // 2] ^= 1
    shard.write_bytes(broken)
    assert main(["verify", str(run)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("shards/part-0-00001.h5: ") for line in lines[:-1])
    assert lines[-1].endswith("problems")
    assert main(["verify", str(run), "--seconds", "0"]) == 2


def test_export_to_other_formats(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zarr = pytest.importorskip("zarr")
    parquet = pytest.importorskip("pyarrow.parquet")
    found = fx.open_run(run).read()
    for name, *flags in (("a.zarr",), ("a.parquet",), ("pictures", "--format", "png")):
        assert main(["export", str(run), "-o", str(tmp_path / name), *flags]) == 0
        line = capsys.readouterr().out
        assert line.startswith(f"export: {tmp_path / name} (")
        assert "(0 " not in line
    maps = zarr.open_group(tmp_path / "a.zarr", mode="r")["lime/maps"][:]
    assert torch.equal(torch.from_numpy(maps), found["lime"].maps)
    assert parquet.read_table(tmp_path / "a.parquet").num_rows == 5 * 2
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 5 * 2
    assert main(["export", str(run), "-o", str(tmp_path / "b"), "--format", "png", "--ids", "nobody"]) == 2
    assert "got 'nobody'" in capsys.readouterr().err
    assert main(["export", str(run), "-o", str(tmp_path / "b.doc")]) == 2
    assert "out must end in .h5" in capsys.readouterr().err
