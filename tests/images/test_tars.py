"""Tar shards: what counts as a picture, ids and labels, and tars that are damaged or mean harm."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastxai.errors import ArgumentError, CannotRun, ImageError
from fastxai.images import Source, load_batches, open_source, unescape_id
from fastxai.types import Preprocess, Status

PREPROCESS = Preprocess((8, 8), None)


def png(shade: int = 0) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (9, 7), (shade, 2 * shade, 50)).save(data, "PNG")
    return data.getvalue()


Add = Callable[[tarfile.TarFile], None]


def pack(path: Path, members: dict[str, bytes], add: Add = lambda tar: None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        add(tar)
    return path


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards in webdataset's layout."""
    for number in range(3):
        members: dict[str, bytes] = {}
        for sample in range(2):
            key = f"{number}{sample}"
            members[f"{key}.png"] = png(10 * number + sample)
            members[f"{key}.cls"] = str(number).encode()
        members["x.jpg"] = png(99)
        members["x.json"] = json.dumps({"label": "dog", "caption": "a dog"}).encode()
        pack(tmp_path / "shards" / f"{number:03d}.tar", members)
    return tmp_path / "shards"


def labels(source: Source) -> list[object]:
    return [entry.read().label if entry.label is None else entry.label for entry in source]


def reason(source: Source) -> dict[str, str]:
    (batch,) = load_batches(source, PREPROCESS, batch=64)
    return dict(zip(batch.ids, batch.errors, strict=True))


def test_pictures_ids_labels_and_digests(shards: Path) -> None:
    source = open_source(str(shards / "{000..002}.tar"))
    assert source.ids == [f"{n:03d}/{name}" for n in range(3) for name in (f"{n}0.png", f"{n}1.png", "x.jpg")]
    assert labels(source) == ["0", "0", "dog", "1", "1", "dog", "2", "2", "dog"]
    raw = source[1].read()
    assert raw.data == png(1)
    assert raw.digest == hashlib.blake2b(png(1), digest_size=16).hexdigest()
    (batch,) = load_batches(source, PREPROCESS, batch=9, class_names=("cat", "emu", "dog"))
    assert batch.status == [Status.OK] * 9
    assert batch.labels.tolist() == [0, 0, 2, 1, 1, 2, 2, 2, 2]
    assert batch.pixels[4, :, 0, 0].tolist() == [11, 22, 50]


def test_ways_to_name_shards(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = open_source(str(shards / "{000..002}.tar")).ids
    assert open_source(str(shards / "*.tar")).ids == every
    assert open_source([shards / f"{n:03d}.tar" for n in range(3)]).ids == every
    assert open_source(str(shards / "{000,002}.tar")).ids == every[:3] + every[6:]
    assert open_source(shards / "001.tar").ids == every[3:6]  # the same, however many are named
    monkeypatch.chdir(shards.parent)
    assert open_source("shards/00[01].tar").ids == every[:6]
    assert open_source(["**/*.tar", "shards/001.tar"]).ids == every
    with pytest.raises(ArgumentError, match="must be files, .* or tar shards that exist, got 'shards/003.tar'"):
        open_source("shards/{002..003}.tar")
    with pytest.raises(ArgumentError, match=r"IMAGES must name at least one picture.*tar shards as FOLDER/\*.tar"):
        open_source("shards")


def test_shards_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for part in ("train", "val"):
        pack(tmp_path / part / "0.tar", {"a.png": png()})
    assert open_source(str(tmp_path / "{train,val}" / "0.tar")).ids == ["train/0/a.png", "val/0/a.png"]


def test_samples_are_named_up_to_the_first_dot(tmp_path: Path) -> None:
    members = {
        "dir/1.jpg": png(1),
        "dir/1.seg.png": png(2),  # not the sample's picture, beside one
        "dir/1.cls": b" 7\n",
        "photo.2024.jpg": png(3),  # a picture all the same: it has no other
        "n01443537_goldfish.JPEG": png(4),
        "n02086910/papillon.png": png(5),
        "2.png": png(6),
        "2.json": b'{"cls": 3}',
        "3.webp": png(7),
        "3.txt": b"words",
        "4.png": png(8),
        "4.cls": b"5",
        "4.json": b'{"label": 6}',
        "5.png": png(9),
        "5.json": b"[1]",
        "._6.png": b"resource fork",
        "__key__": b"",
        "folder.png/": b"",
    }
    source = open_source(pack(tmp_path / "s.tar", members))
    found = dict(zip(source.ids, labels(source), strict=True))
    assert found == {
        "s/dir/1.jpg": "7",
        "s/photo.2024.jpg": None,
        "s/n01443537_goldfish.JPEG": "n01443537_goldfish",
        "s/n02086910/papillon.png": "n02086910",
        "s/2.png": 3,
        "s/3.webp": None,
        "s/4.png": "5",
        "s/5.png": None,
    }


def test_nothing_is_unpacked_and_no_member_is_read_before_it_is_needed(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastxai.images import tars

    before = sorted(shards.parent.rglob("*"))
    reads: list[int] = []
    real = os.pread
    monkeypatch.setattr(tars.os, "pread", lambda *args: reads.append(args[1]) or real(*args))
    source = open_source(str(shards / "*.tar"))
    assert reads == []
    source[0].read()
    assert reads == [len(png()), 1]  # the picture and its label
    assert sorted(shards.parent.rglob("*")) == before


def test_a_member_that_came_twice_counts_as_last(tmp_path: Path) -> None:
    def again(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("a.png")
        info.size = len(png(200))
        tar.addfile(info, io.BytesIO(png(200)))

    (entry,) = open_source(pack(tmp_path / "t.tar", {"a.png": png(1)}, again))
    assert entry.read().data == png(200)


def test_hostile_members_are_failed_rows(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(7))

    def add(tar: tarfile.TarFile) -> None:
        for name, kind in (
            ("soft.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("fifo.png", tarfile.FIFOTYPE),
            ("disk.png", tarfile.BLKTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)

    members = {
        str(secret): png(1),
        "../up.png": png(2),
        "a/../../b.png": png(3),
        "empty.png": b"",
        "broken.png": png(1)[:50],
        "good.png": png(4),
        "labelled.png": png(5),
        "labelled.json": b"{",
        "caf\udce9.png": png(6),
    }
    source = open_source(pack(tmp_path / "t" / "h.tar", members, add))
    found = reason(source)
    assert {id: text for id, text in found.items() if id not in ("h/broken.png", "h/labelled.png")} == {
        f"h/{secret}": "has a name that leads out of its tar",
        "h/../up.png": "has a name that leads out of its tar",
        "h/a/../../b.png": "has a name that leads out of its tar",
        "h/soft.png": "is a link inside a tar, which is not followed",
        "h/hard.png": "is a link inside a tar, which is not followed",
        "h/fifo.png": "is no plain file inside its tar",
        "h/disk.png": "is no plain file inside its tar",
        "h/empty.png": "file is empty",
        "h/good.png": "",
        "h/caf\\xe9.png": "",
    }
    assert found["h/broken.png"].startswith("broken picture")
    assert found["h/labelled.png"].startswith("label 'labelled.json' cannot be read: ")
    assert unescape_id("h/caf\\xe9.png") == "h/caf\udce9.png"


def test_a_name_with_a_nul_is_a_failed_row(tmp_path: Path) -> None:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("x.png")
        info.pax_headers = {"path": "a\0b.png"}
        info.size = len(png())
        tar.addfile(info, io.BytesIO(png()))

    source = open_source(pack(tmp_path / "n.tar", {}, add))
    assert reason(source) == {"n/a\\0b.png": "has a name that no file can have"}


def damaged(good: bytes) -> dict[str, bytes]:
    """What a tar of two members of one block each can have become: header, data, header, data, zeros."""
    backwards = bytearray(good)
    backwards[124:136] = b"\xff" * 12  # a size below zero
    backwards[148:156] = f"{sum(backwards[:148]) + 8 * 32 + sum(backwards[156:512]):06o}\0 ".encode()
    return {
        "without its end": good[: 4 * 512],
        "inside the data": good[: 3 * 512 + 100],
        "inside a header": good[: 2 * 512 + 100],
        "an overwritten header": good[: 2 * 512] + b"x" * 512 + good[3 * 512 :],
        "a size below zero": bytes(backwards),
        "nothing": b"",
        "no tar": b"no tar at all" * 100,
    }


@pytest.mark.timeout(30)  # a loop of headers never ends
@pytest.mark.parametrize("how", damaged(bytes(10240)))
def test_a_damaged_tar_is_one_clear_line(tmp_path: Path, how: str) -> None:
    path = pack(tmp_path / "d.tar", {"a.png": png(1), "b.png": png(2)})
    good = path.read_bytes()
    assert len(png(1)) <= 512
    assert len(open_source(path)) == 2
    path.write_bytes(damaged(good)[how])
    with pytest.raises(CannotRun, match=r"^tar '.*d.tar' is damaged \(.+\): its pictures would be missing$") as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


def test_a_header_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("././@LongLink")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
        tar.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))
        tar.offset += 512

    path = pack(tmp_path / "m.tar", {"a.png": png()}, add)
    with pytest.raises(CannotRun, match="a header of 1,099,511,627,776 bytes"):
        open_source(path)


def test_a_tar_that_changes_later_fails_its_pictures(shards: Path) -> None:
    path = shards / "000.tar"
    source = open_source(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ImageError, match="its tar was cut off after it was opened"):
        source[1].read()
    path.unlink()
    with pytest.raises(ImageError, match="tar cannot be read: No such file"):
        source[1].read()


@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "tar.xz", "tar.zst"])
def test_packed_tars_say_what_to_do(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.{ending}").write_bytes(b"x")
    with pytest.raises(ArgumentError, match="tar shards must not be compressed"):
        open_source(tmp_path / f"a.{ending}")


def test_labels_are_those_of_the_tar(shards: Path) -> None:
    with pytest.raises(ArgumentError, match="labels must come with files named one by one"):
        open_source(shards / "000.tar", labels=[1])
    with pytest.raises(ArgumentError, match="labels must"):
        open_source(str(shards / "{000..001}.tar"), labels=[1])


def test_tars_and_files_mix(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(png(3))
    source = open_source([tmp_path / "one.png", shards / "000.tar"])
    assert source.ids == ["one.png", "000/00.png", "000/01.png", "000/x.jpg"]
    (batch,) = load_batches(source, PREPROCESS, batch=4)
    assert torch.equal(batch.pixels[0, :, 0, 0], torch.tensor([3, 6, 50], dtype=torch.uint8))
