// weighted_gram: the normal equations of a weighted linear fit on coalitions, read from packed bits.
//
//   gram[b, i, j] = sum_r w x_i x_j      rhs[b, i, k] = sum_r w x_i y_k      total[b, k] = sum_r w y_k^2
//   x_i = bit i & 31 of coalitions[b, r, i >> 5] for i < counts[b]; 0 up to S; x_S = 1
//
// All in double. Every output belongs to one thread, which sums four rows, adds that to its sum, and goes on, in row
// order: no atomics, the same bits whatever else is in the call, and those of the CPU loop.
//
// Shapes (contiguous):
//   gram        double [B, S + 1, S + 1], gets both triangles
//   rhs         double [B, S + 1, K]
//   total       double [B, K]
//   coalitions  unsigned int [B, rows, words], 32 words >= S
//   weights     double [B, rows]
//   values      double [B, rows, K]
//   counts      long long [B], 1 .. S
// Columns are the segments, then the extra ones: 1, y_0 .. y_K-1, y_0^2 .. y_K-1^2.
// Grid: x = B, y = used + ceil((1 + 2 K) / 32) tiles of 32 columns, z = used + 1 tiles of 32 segments, the last one
// holding the constant alone, with used = ceil(S / 32). Block: 32 columns by 8; a thread has 4 segments, which all
// threads of a warp share, so that a segment that a row hides costs no addition.
//
// Source: this project.

extern "C" __global__ void weighted_gram(
    double* __restrict__ gram, double* __restrict__ rhs, double* __restrict__ total,
    const unsigned int* __restrict__ coalitions, const double* __restrict__ weights,
    const double* __restrict__ values, const long long* __restrict__ counts, const int rows, const int words,
    const int segments, const int targets)
{
    constexpr int tile = 32, chunk = 64, four = 4;
    __shared__ double terms[chunk][tile];       // w times the column
    __shared__ unsigned int kept[chunk];        // bits of this block's segments
    const int used = (segments + tile - 1) / tile;
    const int a = (int)blockIdx.z, c = (int)blockIdx.y, lane = (int)threadIdx.x, warp = (int)threadIdx.y;
    const bool constant = a == used, extra = c >= used;
    const int column = (extra ? c - used : c) * tile + lane;
    // Nothing to do: below the diagonal, or squares, which only the constant's row asks for.
    if (extra ? !constant && (c - used) * tile > targets : c < a) {
        return;
    }
    const long long b = blockIdx.x;
    const int count = (int)counts[b];
    const int left = count - a * tile;  // of this image's segments from this tile on
    const unsigned int own = constant ? 1u : left >= tile ? ~0u : left > 0 ? (1u << left) - 1u : 0u;
    double sum[four] = {0.0, 0.0, 0.0, 0.0};

    for (int start = 0; start < rows; start += chunk) {
        __syncthreads();
        for (int t = warp; t < chunk; t += (int)blockDim.y) {
            const long long row = b * rows + start + t;
            double term = 0.0;
            if (start + t < rows) {
                const double w = weights[row];
                if (!extra) {
                    const unsigned int bits = coalitions[row * words + c];
                    term = column < count && ((bits >> lane) & 1u) ? w : 0.0;
                } else if (column == 0) {
                    term = w;
                } else if (column <= targets) {
                    term = w * values[row * targets + column - 1];
                } else if (column <= 2 * targets) {
                    const double y = values[row * targets + column - 1 - targets];
                    term = w * y * y;
                }
                if (lane == 0) {
                    kept[t] = own & (constant ? 1u : coalitions[row * words + a]);
                }
            } else if (lane == 0) {
                kept[t] = 0u;
            }
            terms[t][lane] = term;
        }
        __syncthreads();
        const int stop = rows - start < chunk ? rows - start : chunk;
        for (int t = 0; t < stop; t += four) {
            double part[four] = {0.0, 0.0, 0.0, 0.0};
#pragma unroll
            for (int u = 0; u < four; ++u) {  // the chunk is a multiple of four, and filled with zeros
                const double term = terms[t + u][lane];
                const unsigned int bits = kept[t + u] >> (four * warp);
#pragma unroll
                for (int o = 0; o < four; ++o) {
                    if ((bits >> o) & 1u) {
                        part[o] += term;
                    }
                }
            }
#pragma unroll
            for (int o = 0; o < four; ++o) {
                sum[o] += part[o];
            }
        }
    }

    const long long size = segments + 1;
    double* const g = gram + b * size * size;
#pragma unroll
    for (int o = 0; o < four; ++o) {
        const int place = four * warp + o;  // in the tile
        const long long i = constant ? segments : a * tile + place;
        if (constant ? place > 0 : i >= segments) {
            continue;
        }
        if (!extra) {
            if (column < segments) {
                g[i * size + column] = sum[o];
                g[column * size + i] = sum[o];
            }
        } else if (column == 0) {
            g[i * size + segments] = sum[o];
            g[segments * size + i] = sum[o];
        } else if (column <= targets) {
            rhs[(b * size + i) * targets + column - 1] = sum[o];
        } else if (constant && column <= 2 * targets) {
            total[b * targets + column - 1 - targets] = sum[o];
        }
    }
}
