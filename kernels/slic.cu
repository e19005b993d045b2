// slic: nearest centres, means and connected segments of SLIC superpixels.
//
//   nearest(p) = the k of least distance among the centres whose window holds p, the first of equals
//                distance = |place(p) - place(k)|^2 * weight + |colour(p) - colour(k)|^2, summed in this order
//                window: 2 steps to each side, clipped; a pixel in none keeps its centre
//   centre(k)  = mean colour, row and column of its pixels, summed in raster order; NaN where there are none
//   labels     = numbers of the connected components, met in raster order and searched breadth first; one that has
//                reached `largest` pixels ends there, one below `smallest` joins the segment touched last
//
// Shapes (contiguous):
//   nearest  int [B, H, W]
//   colours  double [B, 3, H, W]
//   centres  double [B, K, 5]: colour, row, column
//   boxes    int [B, K, 4]: first row, first column, last row, last column of the pixels of a centre; starts out, and
//            is left by slic_update, as H, W, -1, -1
//   labels   int [B, H * W], in place: ~nearest (negative) becomes the segment's number
//   queue    int [B, largest], scratch
// Grid: slic_assign: x = ceil(W / 16), y = ceil(H / 16), z = B, block 16 x 16: a thread owns a pixel;
//   slic_update: x = K, y = B, block 128; slic_connect: x = B, block 1: a thread owns a picture.
//
// Everything is float64 and summed in a fixed order, so that labels are those of the CPU. Of slic_update's threads all
// fetch, and six add up one after the other what the block fetched: a chain of some thousand additions a centre, and
// all centres of all pictures run side by side.
//
// Source: Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", TPAMI 2012; order, ties
// and connectivity as in scikit-image.

extern "C" __global__ void slic_assign(
    int* __restrict__ nearest, int* __restrict__ boxes, const double* __restrict__ colours,
    const double* __restrict__ centres, const int height, const int width, const int segments, const int step_y,
    const int step_x, const double weight)
{
    constexpr int side = 16, chunk = side * side;
    __shared__ double centre[5][chunk];
    __shared__ int window[4][chunk];
    __shared__ unsigned int listed[chunk / 32];  // bit k: centre k of the chunk reaches this block's pixels
    const int lane = (int)(threadIdx.y * side + threadIdx.x);
    const int tile_x = (int)blockIdx.x * side, tile_y = (int)blockIdx.y * side;
    const int x = tile_x + (int)threadIdx.x, y = tile_y + (int)threadIdx.y;
    const bool inside = x < width && y < height;
    const long long b = blockIdx.z, pixels = (long long)height * width;
    const double* const plane = colours + b * 3 * pixels;
    const int own = inside ? y * width + x : 0;
    const double p0 = plane[own], p1 = plane[own + pixels], p2 = plane[own + 2 * pixels];
    int best = nearest[b * pixels + own];
    double least = 1.7976931348623157e308;

    for (int first = 0; first < segments; first += chunk) {
        __syncthreads();
        if (lane < chunk / 32) {
            listed[lane] = 0u;
        }
        __syncthreads();
        if (first + lane < segments) {
            const double* const at = centres + (b * segments + first + lane) * 5;
            const double cy = at[3], cx = at[4];
            if (cy == cy) {  // not NaN: the segment still has pixels
                const double up = cy - 2 * step_y, down = cy + 2 * step_y + 1;
                const double back = cx - 2 * step_x, on = cx + 2 * step_x + 1;
                const int top = (int)(up > 0.0 ? up : 0.0), bottom = (int)(down < height ? down : (double)height);
                const int left = (int)(back > 0.0 ? back : 0.0), right = (int)(on < width ? on : (double)width);
                if (top < tile_y + side && bottom > tile_y && left < tile_x + side && right > tile_x) {
                    window[0][lane] = top;
                    window[1][lane] = bottom;
                    window[2][lane] = left;
                    window[3][lane] = right;
#pragma unroll
                    for (int f = 0; f < 5; ++f) {
                        centre[f][lane] = at[f];
                    }
                    atomicAdd(&listed[lane / 32], 1u << (lane % 32));
                }
            }
        }
        __syncthreads();
        if (inside) {
            for (int word = 0; word < chunk / 32; ++word) {
                for (unsigned int bits = listed[word]; bits != 0u; bits &= bits - 1u) {
                    const int k = 32 * word + __ffs((int)bits) - 1;
                    if (y < window[0][k] || y >= window[1][k] || x < window[2][k] || x >= window[3][k]) {
                        continue;
                    }
                    const double dy = centre[3][k] - y, dx = centre[4][k] - x;
                    const double d0 = p0 - centre[0][k], d1 = p1 - centre[1][k], d2 = p2 - centre[2][k];
                    const double distance = (dy * dy + dx * dx) * weight + (d0 * d0 + d1 * d1 + d2 * d2);
                    if (least > distance) {
                        least = distance;
                        best = first + k;
                    }
                }
            }
        }
    }
    if (inside) {
        nearest[b * pixels + own] = best;
        // Boxes only grow here, so a value read too early costs an atomic at most.
        int* const box = boxes + (b * segments + best) * 4;
        if (y < box[0]) {
            atomicMin(box, y);
        }
        if (x < box[1]) {
            atomicMin(box + 1, x);
        }
        if (y > box[2]) {
            atomicMax(box + 2, y);
        }
        if (x > box[3]) {
            atomicMax(box + 3, x);
        }
    }
}

extern "C" __global__ void slic_update(
    double* __restrict__ centres, int* __restrict__ boxes, const int* __restrict__ nearest,
    const double* __restrict__ colours, const int height, const int width, const int segments)
{
    constexpr int chunk = 128;
    __shared__ double features[6][chunk + 1];  // colour, row, column, one: 0 for pixels of others; padded for the banks
    const int lane = (int)threadIdx.x, k = (int)blockIdx.x;
    const long long b = blockIdx.y, pixels = (long long)height * width;
    const double* const plane = colours + b * 3 * pixels;
    int* const box = boxes + (b * segments + k) * 4;
    const int top = box[0], left = box[1], bottom = box[2], right = box[3];
    const int across = right - left + 1;
    const int area = right < left ? 0 : across * (bottom - top + 1);
    double sum = 0.0;
    for (int start = 0; start < area; start += chunk) {
        const int i = start + lane;
        const int y = i < area ? top + i / across : 0, x = i < area ? left + i % across : 0;
        const int at = y * width + x;
        const bool own = i < area && nearest[b * pixels + at] == k;
        features[0][lane] = own ? plane[at] : 0.0;
        features[1][lane] = own ? plane[at + pixels] : 0.0;
        features[2][lane] = own ? plane[at + 2 * pixels] : 0.0;
        features[3][lane] = own ? y : 0.0;
        features[4][lane] = own ? x : 0.0;
        features[5][lane] = own ? 1.0 : 0.0;
        __syncthreads();
        if (lane < 6) {
#pragma unroll 16
            for (int j = 0; j < chunk; ++j) {
                sum += features[lane][j];
            }
        }
        __syncthreads();
    }
    if (lane < 6) {
        features[lane][chunk] = sum;
    }
    __syncthreads();
    if (lane < 5) {
        centres[(b * segments + k) * 5 + lane] = sum / features[5][chunk];  // 0 / 0 is NaN: no pixels
    }
    if (lane == 0) {
        box[0] = height;
        box[1] = width;
        box[2] = -1;
        box[3] = -1;
    }
}

extern "C" __global__ void slic_connect(
    int* __restrict__ labels, int* __restrict__ queue, const int height, const int width, const int smallest,
    const int largest)
{
    const int pixels = height * width;
    int* const label = labels + (long long)blockIdx.x * pixels;
    int* const queued = queue + (long long)blockIdx.x * largest;
    int fresh = 0;
    for (int start = 0; start < pixels; ++start) {
        const int old = label[start];
        if (old >= 0) {
            continue;
        }
        int adjacent = fresh, size = 1;
        label[start] = fresh;
        queued[0] = start;
        for (int visited = 0; visited < size && size < largest; ++visited) {
            const int at = queued[visited], y = at / width, x = at - y * width;
            const int to[4] = {at + 1, at - 1, at + width, at - width};
            // Fetched together, because each is a wait; beyond the border stands what is passed over.
            const int found[4] = {
                x + 1 < width ? label[to[0]] : fresh, x > 0 ? label[to[1]] : fresh,
                y + 1 < height ? label[to[2]] : fresh, y > 0 ? label[to[3]] : fresh};
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                if (found[i] == old) {
                    if (size < largest) {
                        label[to[i]] = fresh;
                        queued[size++] = to[i];
                    }
                } else if (size < largest && found[i] >= 0 && found[i] != fresh) {
                    adjacent = found[i];
                }
            }
        }
        if (size < smallest) {
            for (int i = 0; i < size; ++i) {
                label[queued[i]] = adjacent;
            }
        } else {
            ++fresh;
        }
    }
}
