// quickshift: densities, parents and roots of quickshift superpixels.
//
//   density(p) = noise(p) + sum_q spatial[|row distance|, |column distance|] * 2^-|points(p) - points(q)|^2
//                q over the window of p: `radius` pixels to each side, clipped, in raster order
//   parent(p)  = the nearest q within `reach` pixels to each side with density(q) > density(p), p itself where there is
//                none or where that is above `longest`; of equally near ones the first in raster order
//                nearness: |points(p) - points(q)|^2 + row distance^2 + column distance^2, summed in this order
//   root(p)    = where the parents of p end
//
// Shapes (contiguous):
//   density double [B, H, W], noise double [H, W], spatial double [radius + 1, radius + 1]
//   points  double [B, 3, H, W]: the colours; for the density scaled so that 2^-x^2 is the kernel
//   parent  int [B, H * W], root int [B, H * W]: raster indices
// Grid: density and parent: x = ceil(W / blockDim.x), y = ceil(H / blockDim.y), z = B; root: x = ceil(H * W /
//   blockDim.x), y = B. A thread owns a pixel.
//
// Everything is float64: the noise that breaks ties is 1e-5 on densities of some hundreds, and labels shall be those of
// the CPU. Arithmetic sets the pace (some 30 operations a pair against three cached loads), so neighbours are read from
// the L1 cache, not staged in shared memory, which at large windows would not hold them.
//
// Source: Vedaldi and Soatto, "Quick Shift and Kernel Methods for Mode Seeking", ECCV 2008; order and ties as in
// scikit-image.

// 2^-x for x >= 0, to 6e-16 and exact at 0; below 2^-1000 it is 2^-1000. The polynomial stands for 2^-g on -1/2..1/2.
static __device__ __forceinline__ double power_of_half(double x)
{
    union Bits {
        double number;
        unsigned long long bits;
    };
    const double shifter = 6755399441055744.0;  // 1.5 * 2^52: leaves the rounded number in the low bits
    x = x < 1000.0 ? x : 1000.0;
    Bits shifted, power;
    shifted.number = shifter - x;
    const double g = x + (shifted.number - shifter);
    double p = 7.070977866508138e-09;
    p = p * g + -1.0205905413765595e-07;
    p = p * g + 1.3215451633221434e-06;
    p = p * g + -1.5252672924850737e-05;
    p = p * g + 0.00015403530424776529;
    p = p * g + -0.0013333558200794592;
    p = p * g + 0.009618129107618665;
    p = p * g + -0.05550410866465167;
    p = p * g + 0.24022650695910075;
    p = p * g + -0.6931471805599462;
    p = p * g + 1.0;
    power.number = p;
    power.bits += shifted.bits << 52;
    return power.number;
}

extern "C" __global__ void quickshift_density(
    double* __restrict__ density, const double* __restrict__ points, const double* __restrict__ noise,
    const double* __restrict__ spatial, const int height, const int width, const int radius)
{
    const int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int r = (int)(blockIdx.y * blockDim.y + threadIdx.y);
    if (r >= height || c >= width) {
        return;
    }
    const int pixels = height * width;
    const double* const plane = points + (long long)blockIdx.z * 3 * pixels;
    const int own = r * width + c;
    const double l = plane[own], a = plane[own + pixels], b = plane[own + 2 * (long long)pixels];
    const int top = r > radius ? r - radius : 0, bottom = r + radius < height ? r + radius : height - 1;
    const int left = c > radius ? c - radius : 0, right = c + radius < width ? c + radius : width - 1;
    double sum = noise[own];
    for (int y = top; y <= bottom; ++y) {
        const double* const factor = spatial + (y > r ? y - r : r - y) * (radius + 1);
        for (int x = left; x <= right; ++x) {
            const int at = y * width + x;
            const double dl = l - __ldg(plane + at);
            const double da = a - __ldg(plane + at + pixels);
            const double db = b - __ldg(plane + at + 2 * (long long)pixels);
            sum += power_of_half(dl * dl + da * da + db * db) * __ldg(factor + (x > c ? x - c : c - x));
        }
    }
    density[(long long)blockIdx.z * pixels + own] = sum;
}

extern "C" __global__ void quickshift_parent(
    int* __restrict__ parent, const double* __restrict__ points, const double* __restrict__ density, const int height,
    const int width, const int reach, const double longest)
{
    const int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int r = (int)(blockIdx.y * blockDim.y + threadIdx.y);
    if (r >= height || c >= width) {
        return;
    }
    const int pixels = height * width;
    const double* const plane = points + (long long)blockIdx.z * 3 * pixels;
    const double* const dense = density + (long long)blockIdx.z * pixels;
    const int own = r * width + c;
    const double l = plane[own], a = plane[own + pixels], b = plane[own + 2 * (long long)pixels];
    const double level = dense[own];
    double best = 0.0;
    int nearest = -1;
    // Rings of growing radius, until position alone is farther than the best so far.
    for (int ring = 1; ring <= reach && (nearest < 0 || (double)ring * ring <= best); ++ring) {
        const int top = r > ring ? r - ring : 0, bottom = r + ring < height ? r + ring : height - 1;
        for (int y = top; y <= bottom; ++y) {
            const int step = y == r - ring || y == r + ring ? 1 : 2 * ring;
            for (int x = c - ring; x <= c + ring; x += step) {
                if (x < 0 || x >= width) {
                    continue;
                }
                const int at = y * width + x;
                if (!(__ldg(dense + at) > level)) {
                    continue;
                }
                const double dl = l - __ldg(plane + at);
                const double da = a - __ldg(plane + at + pixels);
                const double db = b - __ldg(plane + at + 2 * (long long)pixels);
                const double dy = r - y, dx = c - x;
                const double distance = dl * dl + da * da + db * db + dy * dy + dx * dx;
                if (nearest < 0 || distance < best || (distance == best && at < nearest)) {
                    best = distance;
                    nearest = at;
                }
            }
        }
    }
    const bool linked = nearest >= 0 && best <= longest;
    parent[(long long)blockIdx.z * pixels + own] = linked ? nearest : own;
}

extern "C" __global__ void quickshift_root(int* __restrict__ root, const int* __restrict__ parent, const int pixels)
{
    const int p = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (p >= pixels) {
        return;
    }
    const int* const next = parent + (long long)blockIdx.y * pixels;
    int at = p;
    while (next[at] != at) {
        at = next[at];
    }
    root[(long long)blockIdx.y * pixels + p] = at;
}
