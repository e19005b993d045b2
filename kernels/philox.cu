// philox: keyed random words, Philox4x32-10.
//
//   out[r, 4 j + i] = output i of philox(counter = (j, ordinal low, ordinal high, stream), key = keys[image[r]])
//   one of ten rounds: (hi0, lo0) = M0 * c0, (hi1, lo1) = M1 * c2,
//                      c = (hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0), then k0 += W0, k1 += W1
//
// Shapes (contiguous):
//   out      unsigned int [rows, words]
//   keys     long long [B, 2], words in 0 .. 2^32 - 1
//   image    long long [rows], 0 .. B - 1
//   ordinal  long long [rows], >= 0
// Grid: x = ceil(rows * ceil(words / 4) / blockDim.x). A thread makes the four words of one counter.
//
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

extern "C" __global__ void philox(
    unsigned int* __restrict__ out, const long long* __restrict__ keys, const long long* __restrict__ image,
    const long long* __restrict__ ordinal, const long long rows, const int words, const unsigned int stream)
{
    const int blocks = (words + 3) / 4;
    const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * blocks) {
        return;
    }
    const long long r = index / blocks;
    const unsigned int j = (unsigned int)(index % blocks);
    const unsigned long long number = (unsigned long long)ordinal[r];
    unsigned int c[4] = {j, (unsigned int)number, (unsigned int)(number >> 32), stream};
    unsigned int k0 = (unsigned int)keys[2 * image[r]];
    unsigned int k1 = (unsigned int)keys[2 * image[r] + 1];
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned long long p0 = 0xD2511F53ull * c[0];
        const unsigned long long p1 = 0xCD9E8D57ull * c[2];
        c[0] = (unsigned int)(p1 >> 32) ^ c[1] ^ k0;
        c[1] = (unsigned int)p1;
        c[2] = (unsigned int)(p0 >> 32) ^ c[3] ^ k1;
        c[3] = (unsigned int)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (4 * (long long)j + i < words) {
            out[r * words + 4 * (long long)j + i] = c[i];
        }
    }
}
