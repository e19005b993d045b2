"""Every kernel compiles for every architecture we serve, and its sources are found wherever fastxai is installed."""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fastxai.errors import ArgumentError, CannotRun, MissingExtra
from fastxai.ops import _cuda, compose_rows, implementations, random_words

ARCHITECTURES = ["sm_75", "sm_80", "sm_90", "sm_120"]

# Constants as launches ask for them, every branch in each element type; a kernel without an entry is compiled plainly.
CONSTANTS: dict[str, list[dict[str, int]]] = {
    "compose_rows": [
        {
            "ELEMENT_BYTES": size,
            "VECTOR": vector,
            "CHANNELS": channels,
            "CHANNELS_LAST": last,
            "TABLE": table,
            "FILL_PER_SEGMENT": per_segment,
            "ROWS_A_BLOCK": 16,
        }
        for (size, vector), channels, last, table, per_segment in itertools.product(
            [(2, 8), (4, 1)], [3], [0, 1], [0, 1], [0, 1]
        )
    ],
}
STEMS = sorted(path.stem for path in _cuda.kernel_folder().glob("*.cu"))


def test_there_are_kernels():
    assert {"compose_rows", "philox"} <= set(STEMS)
    assert set(CONSTANTS) <= set(STEMS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("stem", STEMS)
def test_compiles(stem, architecture):
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings comes with CUDA builds of torch only")
    try:
        nvrtc.nvrtcVersion()
    except (RuntimeError, ImportError, OSError) as error:
        pytest.skip(f"the library behind cuda-bindings is missing: {error}")
    source = _cuda.kernel_source(stem).encode()
    for constants in CONSTANTS.get(stem, [{}]):
        options = [*_cuda.compile_options(constants), f"-arch={architecture}"]
        status, program = nvrtc.nvrtcCreateProgram(source, f"{stem}.cu".encode(), 0, [], [])
        assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        # It writes into these bytes. One more than it needs: Python shares all bytes objects of length one, and the end
        # of an empty log, written into one of them, would change that byte for the whole process.
        log = bytes(size + 1)
        nvrtc.nvrtcGetProgramLog(program, log)
        assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, f"{constants}\n{log.decode()}"
        assert not log.strip(b" \0\n"), f"warnings: {constants}\n{log.decode()}"
        nvrtc.nvrtcDestroyProgram(program)


@pytest.mark.parametrize("stem", STEMS)
def test_keeps_to_the_dialect(stem):
    code = re.sub(r"//[^\n]*", "", _cuda.kernel_source(stem))
    for forbidden in (r"\basm\b", r"#\s*include", "cooperative_groups", "__shfl", "wmma", r"extern\s+__shared__"):
        assert not re.search(forbidden, code), forbidden


@pytest.mark.parametrize("stem", STEMS)
def test_opens_with_its_description(stem):
    header = "".join(
        itertools.takewhile(lambda line: line.startswith("//"), _cuda.kernel_source(stem).splitlines(True))
    )
    assert header.startswith(f"// {stem}: ")
    for part in ("Shapes (contiguous):", "Grid:", "Source:"):
        assert part in header


@pytest.mark.parametrize("layout", ["source tree or editable install", "wheel"])
def test_sources_are_found(tmp_path: Path, layout):
    package = tmp_path / "fastxai"
    folder = package / "_kernels" if layout == "wheel" else tmp_path / "kernels"
    folder.mkdir(parents=True)
    (folder / "compose_rows.cu").write_text("// found")
    assert _cuda.kernel_folder(package) == folder


def test_missing_sources_say_what_to_do(tmp_path: Path):
    (tmp_path / "kernels").mkdir()  # another project's
    with pytest.raises(CannotRun, match="install fastxai again"):
        _cuda.kernel_folder(tmp_path / "fastxai")


def test_without_cupy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    for version, extra in (("12.8", "cuda12"), ("13.2", "cuda13")):
        monkeypatch.setattr(torch.version, "cuda", version)
        with pytest.raises(MissingExtra, match=rf"fastxai\[{extra}\]"):
            _cuda.import_cupy()


def test_a_kernel_wants_cuda_tensors_and_sized_numbers():
    zero = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ArgumentError, match="must be on one CUDA device, got cpu"):
        random_words(zero.expand(1, 2), zero, zero, 4, 0, implementation="cuda")
    with pytest.raises(ArgumentError, match="must be on one CUDA device, got cpu"):
        compose_rows(
            torch.zeros(1, 1, 2, 2),
            torch.zeros(1, 2, 2, dtype=torch.int32),
            torch.zeros(1, 1, dtype=torch.int32),
            zero,
            torch.zeros(1),
            mean=(0.0,),
            std=(1.0,),
            dtype=torch.float32,
            implementation="cuda",
        )


class FakeCupy:
    """Takes down what CuPy is asked for."""

    def __init__(self):
        self.modules, self.launches, self.streams = [], [], []
        self.cuda = self

    def Device(self, index):
        return contextlib.nullcontext()

    def ExternalStream(self, pointer, index):
        self.streams.append((pointer, index))
        return contextlib.nullcontext()

    def RawModule(self, **options):
        self.modules.append(options)
        return self

    def get_function(self, name):
        return lambda grid, block, arguments: self.launches.append((name, grid, block, arguments))


class FakeTensor(torch.Tensor):
    """A CPU tensor that says it is on a GPU."""

    @property
    def device(self):
        return torch.device("cuda", 1)


def test_launch_passes_pointers_and_the_stream_and_compiles_once(monkeypatch):
    cupy = FakeCupy()
    stream = type("Stream", (), {"cuda_stream": 4711})()
    monkeypatch.setattr(_cuda, "import_cupy", lambda: cupy)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: stream)
    _cuda._module.cache_clear()
    tensor = torch.zeros(3).as_subclass(FakeTensor)
    for _ in range(2):
        _cuda.launch(
            "philox", "philox", defines={"A": 1}, grid=(2, 1, 1), block=(3, 1, 1), arguments=(tensor, np.int32(5))
        )
    _cuda._module.cache_clear()
    assert len(cupy.modules) == 1
    assert "-DA=1" in cupy.modules[0]["options"]
    assert cupy.streams == [(4711, 1)] * 2
    name, grid, block, (pointer, number) = cupy.launches[0]
    assert (name, grid, block) == ("philox", (2, 1, 1), (3, 1, 1))
    assert (pointer, pointer.nbytes, number, number.nbytes) == (tensor.data_ptr(), 8, 5, 4)
    with pytest.raises(ArgumentError, match="must be sized numpy scalars, got 5"):
        _cuda.launch("philox", "philox", defines={}, grid=(1, 1, 1), block=(1, 1, 1), arguments=(tensor, 5))
    with pytest.raises(ArgumentError, match="at most 65535 blocks"):
        _cuda.launch("philox", "philox", defines={}, grid=(1, 70000, 1), block=(1, 1, 1), arguments=(tensor,))


def test_implementations_name_every_op():
    from fastxai import ops

    functions = {
        name for name in ops.__all__ if name not in ("Moments", "implementations", "normals", "uniforms", "unpack")
    }
    for device in ("cpu", "cuda", "mps"):
        assert set(implementations(device)) == functions
    assert implementations("cpu")["compose_rows"].startswith("numba: ")
    assert implementations("mps")["compose_rows"].startswith("torch: ")
    assert implementations("mps")["slic"].startswith("scikit-image: ")
