"""What the tests of the ops share: awkward pictures, and a GPU that g++ pretends to be."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fastxai.ops import _cuda

HEADER = Path(__file__).with_name("host_cuda.h")
Triple = tuple[int, int, int]


class Scene:
    """Pictures, labels and coalitions of one shape, drawn from a seed."""

    def __init__(
        self, batch: int, channels: int, height: int, width: int, segments: int, rows: int, *, seed: int = 0
    ) -> None:
        g = torch.Generator().manual_seed(seed)
        self.segments = segments
        self.pictures = torch.randint(0, 256, (batch, channels, height, width), generator=g).to(torch.uint8)
        self.labels = torch.randint(0, segments, (batch, height, width), generator=g).to(torch.int32)
        self.coalitions = words(g, rows, -(-segments // 32))
        self.image = torch.randint(0, batch, (rows,), generator=g)
        self.colour = torch.rand(channels, generator=g) * 255
        self.colours = torch.rand(batch, segments, channels, generator=g) * 255
        self.mean = tuple(0.4 + 0.03 * c for c in range(channels))
        self.std = tuple(0.2 + 0.01 * c for c in range(channels))


def words(generator: torch.Generator, *shape: int) -> Tensor:
    """Random 32-bit patterns as int32."""
    return torch.randint(-(2**31), 2**31, shape, generator=generator).to(torch.int32)


@pytest.fixture(scope="session")
def scene() -> type[Scene]:
    return Scene


def chw(pixels: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> [3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def noise(*shape: int, seed: int = 0, levels: int = 256) -> Tensor:
    """Random uint8 values, `levels` of them spread over 0..255: few make ties."""
    g = torch.Generator().manual_seed(seed)
    return (torch.randint(0, levels, shape, generator=g) * (255 // max(levels - 1, 1))).to(torch.uint8)


@pytest.fixture(scope="session")
def crops(photos: dict[str, np.ndarray]) -> Tensor:
    """One crop 224 x 224 of each photograph of scikit-image: uint8 [4, 3, 224, 224]."""
    return torch.stack([chw(pixels[50:274, 60:284]) for pixels in photos.values()])


def relaid(tensor: Tensor, way: int) -> Tensor:
    """The same numbers in another memory layout, 0..3: as they are, first axis innermost, with gaps, off alignment."""
    if tensor.dim() == 0 or way == 0:
        return tensor
    if way == 1:
        return tensor.movedim(0, -1).contiguous().movedim(-1, 0)
    if way == 2:
        return torch.stack((tensor, tensor), -1)[..., 0]
    return torch.cat((tensor.new_zeros(1), tensor.flatten()))[1:].view(tensor.shape)


@pytest.fixture(scope="session", name="relaid")
def _relaid() -> Callable[[Tensor, int], Tensor]:
    return relaid


@pytest.fixture(scope="session")
def host_build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str, Mapping[str, int]], ctypes.CDLL]:
    """Builds a kernel of a .cu file for the host, where undefined behaviour ends the process."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to build the kernels for the host")
    folder = tmp_path_factory.mktemp("host")
    built: dict[str, ctypes.CDLL] = {}

    def build(cuda: Path, kernel: str, defines: Mapping[str, int]) -> ctypes.CDLL:
        options = [f"-D{name}={value}" for name, value in sorted(defines.items())]
        key = hashlib.blake2b(" ".join([str(cuda), kernel, *options]).encode(), digest_size=8).hexdigest()
        if key not in built:
            source, library = folder / f"{key}.cpp", folder / f"{key}.so"
            source.write_text(
                f'#include "{HEADER}"\n#include "{cuda}"\n'
                'extern "C" void launch(const unsigned int* grid, const unsigned int* block, void** arguments)\n'
                f"{{ host_cuda::launch({kernel}, grid, block, arguments); }}\n"
                f'extern "C" int sizes(int* bytes) {{ return host_cuda::sizes({kernel}, bytes); }}\n'
            )
            command = [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-Wall", "-Wextra"]
            command += ["-Werror", "-Wno-unknown-pragmas", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
            done = subprocess.run([*command, *options, str(source), "-o", str(library)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            built[key] = ctypes.CDLL(str(library))
        return built[key]

    return build


@pytest.fixture
def host_gpu(
    host_build: Callable[[Path, str, Mapping[str, int]], ctypes.CDLL], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """`implementation="cuda"` runs the .cu file on the host, on CPU tensors. Gives the list of launched kernels."""
    launched: list[str] = []

    def launch(
        stem: str,
        kernel: str,
        *,
        defines: Mapping[str, int],
        grid: Triple,
        block: Triple,
        arguments: Sequence[Tensor | np.generic],
    ) -> None:
        library = host_build(_cuda.kernel_folder() / f"{stem}.cu", kernel, defines)
        bytes_wanted = (ctypes.c_int * 64)()
        count = library.sizes(bytes_wanted)
        assert count == len(arguments)
        values: list[np.generic] = []
        for wanted, argument in zip(bytes_wanted[:count], arguments, strict=True):
            if isinstance(argument, Tensor):
                assert argument.is_contiguous() or argument.is_contiguous(memory_format=torch.channels_last)
                value: np.generic = np.uintp(argument.data_ptr())
            else:
                value = argument
            assert value.nbytes == wanted, f"an argument of {value.nbytes} bytes for a parameter of {wanted}"
            values.append(value)
        held = [np.array([value]) for value in values]
        pointers = (ctypes.c_void_p * count)(*(array.ctypes.data for array in held))
        library.launch((ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), pointers)
        launched.append(kernel)

    monkeypatch.setattr(_cuda, "launch", launch)
    return launched
