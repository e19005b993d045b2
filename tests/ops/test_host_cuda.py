"""host_cuda.h itself: shared memory, barriers, atomics and block shapes do on the host what they do on a GPU."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

SOURCE = """
extern "C" __global__ void reverse_blocks(int* out, const int* in, int* counts, const int size)
{
    __shared__ int held[64];
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    const int threads = blockDim.x * blockDim.y;
    const int index = (blockIdx.y * gridDim.x + blockIdx.x) * threads + thread;
    held[thread] = index < size ? in[index] : 0;
    __syncthreads();
    for (int stride = 1; stride < threads; stride *= 2) {  // barriers in a loop
        __syncthreads();
    }
    if (index >= size) {
        return;
    }
    out[index] = held[threads - 1 - thread];
    atomicAdd(&counts[__popc(index) & 1], 1);
    atomicMax(&counts[2], index);
}
"""


def test_runs_blocks_of_threads_with_barriers(host_build, tmp_path: Path):
    path = tmp_path / "reverse.cu"
    path.write_text(SOURCE)
    library = host_build(path, "reverse_blocks", {})
    size, threads, blocks = 350, 64, 6
    given = np.random.default_rng(0).integers(0, 1000, size, dtype=np.int32)
    out, counts = np.zeros(size, np.int32), np.zeros(3, np.int32)
    values = [np.array([a.ctypes.data], np.uintp) for a in (out, given, counts)] + [np.array([size], np.int32)]
    pointers = (ctypes.c_void_p * 4)(*(value.ctypes.data for value in values))
    library.launch((ctypes.c_uint * 3)(3, 2, 1), (ctypes.c_uint * 3)(16, 4, 1), pointers)
    padded = np.concatenate((given, np.zeros(blocks * threads - size, np.int32)))
    assert np.array_equal(out, padded.reshape(blocks, threads)[:, ::-1].ravel()[:size])
    odd = sum(bin(i).count("1") & 1 for i in range(size))
    assert counts.tolist() == [size - odd, odd, size - 1]
