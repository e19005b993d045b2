"""What is built and installed: the wheel's contents, and the CUDA sources found from every kind of installation."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]

# Build through the back end itself: offline, and without an environment of its own.
_BUILD = "import sys, hatchling.build as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"

_LOCATE = """
import sys, pathlib, fastxai
from fastxai.ops import _cuda
print(pathlib.Path(fastxai.__file__).resolve().parent)
print(_cuda.kernel_folder().resolve())
print(len(_cuda.kernel_source("compose_rows")))
"""


def build(kind: str, folder: Path) -> Path:
    """`kind` is a hook of the build back end: build_wheel, build_editable or build_sdist."""
    command = [sys.executable, "-c", _BUILD, kind, str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=True)
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_wheel", tmp_path_factory.mktemp("wheel"))


def locate(folder: Path | None, *, sites: bool = False) -> tuple[Path, Path, int]:
    """Package folder, kernel folder and length of a source, as a new interpreter finds them from `folder`.

    With `sites`, the folder is a site-packages folder: its .pth files are followed.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    code = _LOCATE
    if sites:
        # before this environment's own installation, which may be the source tree as well
        code = f"import site, sys\nn = len(sys.path)\nsite.addsitedir({str(folder)!r})\n" + (
            "sys.path[:] = sys.path[n:] + sys.path[:n]\n" + _LOCATE
        )
    elif folder is not None:
        environment["PYTHONPATH"] = str(folder)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True, timeout=120, check=True
    )
    package, kernels, length = done.stdout.splitlines()
    return Path(package), Path(kernels), int(length)


def sources() -> set[str]:
    return {path.name for path in (PROJECT / "kernels").iterdir() if path.suffix in (".cu", ".cuh", ".h")}


def test_wheel_carries_the_kernels_inside_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {name.removeprefix("fastxai/_kernels/") for name in names if name.startswith("fastxai/_kernels/")}
    assert sources() <= shipped
    assert "compose_rows.cu" in shipped
    # `kernels`, `tests`, ... at the top would land in everyone's site-packages
    assert {name.split("/")[0] for name in names} == {"fastxai", wheel.name.split("-py3")[0] + ".dist-info"}
    assert "fastxai/py.typed" in names
    modules = {p.relative_to(PROJECT).as_posix() for p in (PROJECT / "fastxai").rglob("*.py")}
    assert modules <= set(names)
    page = {f"fastxai/report/page/{p.name}" for p in (PROJECT / "fastxai" / "report" / "page").iterdir()}
    assert len(page) > 5 and page <= set(names)  # template, style and scripts of the HTML report


def test_wheel_says_what_it_is(wheel: Path) -> None:
    import fastxai

    archive = zipfile.ZipFile(wheel)
    info = wheel.name.split("-py3")[0] + ".dist-info"
    metadata = archive.read(f"{info}/METADATA").decode()
    assert f"\nVersion: {fastxai.__version__}\n" in metadata
    assert "\nRequires-Dist: torch>=2.10\n" in metadata
    assert "fastxai = fastxai.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
    assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()


def test_sdist_is_complete(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(build("build_sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "kernels/compose_rows.cu",
        "scripts/test",
        "tests/conftest.py",
    ):
        assert needed in names
    assert not any(name.startswith((".venv", "runs/")) for name in names)


def test_kernels_are_found_in_the_source_tree() -> None:
    package, kernels, length = locate(PROJECT)
    assert (package, kernels) == (PROJECT / "fastxai", PROJECT / "kernels")
    assert length > 0


def test_kernels_are_found_in_an_unpacked_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    package, kernels, length = locate(tmp_path)
    assert (package, kernels) == (tmp_path / "fastxai", tmp_path / "fastxai" / "_kernels")
    assert length == len((PROJECT / "kernels" / "compose_rows.cu").read_text(encoding="utf-8"))


def test_kernels_are_found_from_an_editable_install(tmp_path: Path) -> None:
    editable = build("build_editable", tmp_path)
    site = tmp_path / "site"
    zipfile.ZipFile(editable).extractall(site)
    package, kernels, length = locate(site, sites=True)
    # never a copy: an edited kernel must be the one that runs
    assert (package, kernels) == (PROJECT / "fastxai", PROJECT / "kernels")
    assert length > 0
