// Runs CUDA kernels on the host, for tests: built by g++ with `-include host_cuda.h`.
//
// A block's threads are fibers that take turns: one runs until it returns or reaches __syncthreads(), then the next.
// Blocks run one after the other. That is slow and shows no races, but runs the very source that the GPU gets.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <tuple>
#include <utility>
#include <vector>

#include <ucontext.h>

struct uint3 {
    unsigned int x, y, z;
};
struct dim3 {
    unsigned int x, y, z;
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // one block at a time, so one copy; like on the GPU, it starts with whatever was there

namespace host_cuda {

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    uint3 thread;
    bool done;
};

static ucontext_t scheduler;
static Fiber* running = nullptr;
static void (*body)(void*) = nullptr;
static void* body_arguments = nullptr;

static inline void enter()
{
    body(body_arguments);
    running->done = true;
    swapcontext(&running->context, &scheduler);
}

static inline void run_block(unsigned int count)
{
    static std::vector<Fiber> fibers;
    if (fibers.size() < count) {
        fibers.resize(count);
    }
    for (unsigned int t = 0; t < count; ++t) {
        Fiber& fiber = fibers[t];
        fiber.stack.resize(1 << 16);
        fiber.thread = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
        fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    // Every pass takes each thread to its next barrier, or to its end.
    for (unsigned int left = count; left > 0;) {
        for (unsigned int t = 0; t < count; ++t) {
            if (!fibers[t].done) {
                running = &fibers[t];
                threadIdx = running->thread;
                swapcontext(&scheduler, &running->context);
                left -= running->done ? 1 : 0;
            }
        }
    }
}

template <class... A> struct Call {
    void (*kernel)(A...);
    std::tuple<A...> arguments;
    static void run(void* self)
    {
        Call* call = static_cast<Call*>(self);
        std::apply(call->kernel, call->arguments);
    }
};

template <class... A, std::size_t... I>
void launch(void (*kernel)(A...), const unsigned int* grid, const unsigned int* block, void** arguments,
            std::index_sequence<I...>)
{
    Call<A...> call{kernel, std::tuple<A...>(*static_cast<std::remove_cv_t<A>*>(arguments[I])...)};
    body = Call<A...>::run;
    body_arguments = &call;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (unsigned int z = 0; z < gridDim.z; ++z) {
        for (unsigned int y = 0; y < gridDim.y; ++y) {
            for (unsigned int x = 0; x < gridDim.x; ++x) {
                blockIdx = {x, y, z};
                run_block(blockDim.x * blockDim.y * blockDim.z);
            }
        }
    }
}

// Sizes of the parameters in bytes, so that the caller can check what it passes.
template <class... A> int sizes(void (*)(A...), int* bytes)
{
    int count = 0;
    ((bytes[count++] = (int)sizeof(A)), ...);
    return count;
}

// arguments: one pointer per parameter to its value, as cuLaunchKernel takes them.
template <class... A>
void launch(void (*kernel)(A...), const unsigned int* grid, const unsigned int* block, void** arguments)
{
    launch(kernel, grid, block, arguments, std::index_sequence_for<A...>{});
}

}  // namespace host_cuda

static inline void __syncthreads()
{
    swapcontext(&host_cuda::running->context, &host_cuda::scheduler);
    threadIdx = host_cuda::running->thread;
}

template <class T> static inline T atomicAdd(T* address, T value)
{
    const T old = *address;
    *address = old + value;
    return old;
}
template <class T> static inline T atomicMin(T* address, T value)
{
    const T old = *address;
    *address = value < old ? value : old;
    return old;
}
template <class T> static inline T atomicMax(T* address, T value)
{
    const T old = *address;
    *address = value > old ? value : old;
    return old;
}
template <class T> static inline T atomicCAS(T* address, T compare, T value)
{
    const T old = *address;
    *address = old == compare ? value : old;
    return old;
}
template <class T> static inline T __ldg(const T* address) { return *address; }
static inline int __popc(unsigned int x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned int)x) : 32; }
