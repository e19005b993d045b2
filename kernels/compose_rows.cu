// compose_rows: masked copies of pictures, written as model input in one pass.
//
//   out[r, c, y, x] = keep ? pixel(b, c, y, x) : colour        b = image[r], s = labels[b, y, x]
//   keep   = bit s & 31 of coalitions[r, s >> 5]
//   pixel  = table[c, pictures[b, c, y, x]]  (TABLE: pictures are bytes)  or  pictures[b, c, y, x]
//   colour = fill[b, s, c]  (FILL_PER_SEGMENT)  or  fill[c]
//
// The kernel moves bit patterns of the output type; what a byte or a fill colour becomes in that type has been worked
// out beforehand, so the result equals where + normalise + cast exactly.
//
// Shapes (contiguous):
//   out        element [R, H, W, C] with CHANNELS_LAST, else [R, C, H, W]; 16-byte aligned
//   pictures   byte or element [B, C, H, W]
//   labels     int [B, H, W], 0 .. 32 * words - 1
//   coalitions unsigned int [R, words]
//   image      long long [R], 0 .. B - 1
//   fill       element [C] or [B, segments, C]
//   table      element [C, 256]
// Constants: ELEMENT_BYTES (2, 4), VECTOR elements a store (VECTOR * ELEMENT_BYTES <= 16, and VECTOR divides
//   C * H * W, so that every row starts aligned), CHANNELS, CHANNELS_LAST, TABLE, FILL_PER_SEGMENT, ROWS_A_BLOCK.
// Grid: x = ceil(C * H * W / (VECTOR * blockDim.x)), y = ceil(R / ROWS_A_BLOCK). Any blockDim.x.
//
// A thread owns VECTOR neighbouring elements of a row, in memory order. It reads what they can become once (pixel,
// colour, label), then writes them for ROWS_A_BLOCK rows, reading again only where the image changes. Rows of one
// image stand together, so reads are a small share and the stores, full and coalesced, set the pace.
//
// Source: the masking step of LIME (Ribeiro, Singh, Guestrin 2016, section 3.4) on packed coalitions.

#if ELEMENT_BYTES == 2
typedef unsigned short element;
#else
typedef unsigned int element;
#endif

#if TABLE
typedef unsigned char source;
#else
typedef element source;
#endif

struct alignas(VECTOR * ELEMENT_BYTES) Pack {
    element value[VECTOR];
};

extern "C" __global__ void compose_rows(
    element* __restrict__ out, const source* __restrict__ pictures, const int* __restrict__ labels,
    const unsigned int* __restrict__ coalitions, const long long* __restrict__ image,
    const element* __restrict__ fill, const element* __restrict__ table, const int rows, const int pixels,
    const int words, const int segments)
{
    const int length = pixels * CHANNELS;
    const int start = (int)(blockIdx.x * blockDim.x + threadIdx.x) * VECTOR;
    if (start >= length) {
        return;
    }
    const int first = (int)blockIdx.y * ROWS_A_BLOCK;
    const int last = first + ROWS_A_BLOCK < rows ? first + ROWS_A_BLOCK : rows;

    long long current = -1;
    Pack pixel, colour;
    int label[VECTOR];
    for (int r = first; r < last; ++r) {
        const long long b = image[r];
        if (b != current) {
            current = b;
#pragma unroll
            for (int i = 0; i < VECTOR; ++i) {
                const int e = start + i;
#if CHANNELS_LAST
                const int p = e / CHANNELS;
                const int c = e % CHANNELS;
#else
                const int p = e % pixels;
                const int c = e / pixels;
#endif
                label[i] = labels[b * pixels + p];
                const source found = pictures[(b * CHANNELS + c) * pixels + p];
#if TABLE
                pixel.value[i] = table[c * 256 + found];
#else
                pixel.value[i] = found;
#endif
#if FILL_PER_SEGMENT
                colour.value[i] = fill[(b * segments + label[i]) * CHANNELS + c];
#else
                colour.value[i] = fill[c];
#endif
            }
        }
        const unsigned int* const kept = coalitions + (long long)r * words;
        Pack chosen;
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) {
            const unsigned int keep = (kept[label[i] >> 5] >> (label[i] & 31)) & 1u;
            chosen.value[i] = keep ? pixel.value[i] : colour.value[i];
        }
        *reinterpret_cast<Pack*>(out + (long long)r * length + start) = chosen;
    }
#if !TABLE
    (void)table;
#endif
#if !FILL_PER_SEGMENT
    (void)segments;
#endif
}
