// How kernels divide their work among threads, and how they access memory.
//
// The work of a kernel is divided into *groups* of neighbouring elements. A group is large enough for 16-byte accesses,
// the widest of a thread, which keep the most bytes in flight. Each access checks whether its elements are complete and
// aligned; if not, it falls back to 4-byte accesses, then to single elements. Arrays may have any size and begin at any
// element.
//
// An operation is a struct that holds the arguments of a kernel, and has
//     using Group                     the elements that a group reads
//     groups()                        the number of groups
//     load(group)                     reads a group
//     store(group, loaded)            computes and writes a group
// `run` processes all groups. As `load` is separate from `store`, a thread can load several groups before it waits.
#pragma once

#include "arithmetic.cuh"

// Threads of a block.
constexpr int BLOCK = 256;

// An array that is indexed by a loop's counter stays in registers only if the loop is unrolled.
#ifdef __CUDACC__
#define UNROLLED _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#else
#define UNROLLED
#define ROLLED
#endif

template <int WORDS>
struct [[gnu::may_alias]] alignas(4 * WORDS) Words {
    uint32_t words[WORDS];
};

// N elements in registers, packed as in memory. Indices must be constants after unrolling, else it moves to memory.
template <class T, int N>
struct Run {
    static constexpr int NBYTES = N * sizeof(T), PER_WORD = 4 / sizeof(T);
    static constexpr int ACCESS = NBYTES < 16 ? NBYTES : 16;  // bytes
    static_assert(NBYTES % ACCESS == 0 && ACCESS % 4 == 0, "a run consists of whole accesses");

    uint32_t words[NBYTES / 4];

    HD T get(int index) const {
        const uint32_t word = words[index / PER_WORD] >> shift(index);
        T value;
        memcpy(&value, &word, sizeof value);
        return value;
    }

    HD void set(int index, T value) {
        uint32_t bits = 0;
        memcpy(&bits, &value, sizeof value);
        uint32_t& word = words[index / PER_WORD];
        word = (word & ~(MASK << shift(index))) | bits << shift(index);
    }

  private:
    static constexpr uint32_t MASK = 0xFFFFFFFFu >> (32 - 8 * sizeof(T));
    static HD constexpr int shift(int index) { return index % PER_WORD * 8 * int(sizeof(T)); }
};

template <int NBYTES>
HD bool is_aligned(const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % NBYTES == 0;
}

// Reads `count` elements from `from` on; the rest of the run is 0.
template <class T, int N>
HD Run<T, N> load_run(const T* from, int count) {
    constexpr int WORDS = Run<T, N>::ACCESS / 4, ELEMENTS = Run<T, N>::ACCESS / int(sizeof(T));
    Run<T, N> run = {};
    UNROLLED
    for (int access = 0; access < N / ELEMENTS; ++access) {
        const int first = access * ELEMENTS;
        const bool whole = first + ELEMENTS <= count;
        if (whole && is_aligned<4 * WORDS>(from + first)) {
            const auto wide = *reinterpret_cast<const Words<WORDS>*>(from + first);
            UNROLLED
            for (int i = 0; i < WORDS; ++i) run.words[access * WORDS + i] = wide.words[i];
        } else if (whole && is_aligned<4>(from + first)) {
            const auto narrow = reinterpret_cast<const Words<1>*>(from + first);
            UNROLLED
            for (int i = 0; i < WORDS; ++i) run.words[access * WORDS + i] = narrow[i].words[0];
        } else {
            UNROLLED
            for (int i = first; i < first + ELEMENTS; ++i)
                if (i < count) run.set(i, from[i]);
        }
    }
    return run;
}

// Writes the first `count` elements of a run.
template <class T, int N>
HD void store_run(T* to, const Run<T, N>& run, int count) {
    constexpr int WORDS = Run<T, N>::ACCESS / 4, ELEMENTS = Run<T, N>::ACCESS / int(sizeof(T));
    UNROLLED
    for (int access = 0; access < N / ELEMENTS; ++access) {
        const int first = access * ELEMENTS;
        const bool whole = first + ELEMENTS <= count;
        if (whole && is_aligned<4 * WORDS>(to + first)) {
            Words<WORDS> wide;
            UNROLLED
            for (int i = 0; i < WORDS; ++i) wide.words[i] = run.words[access * WORDS + i];
            *reinterpret_cast<Words<WORDS>*>(to + first) = wide;
        } else if (whole && is_aligned<4>(to + first)) {
            const auto narrow = reinterpret_cast<Words<1>*>(to + first);
            UNROLLED
            for (int i = 0; i < WORDS; ++i) narrow[i].words[0] = run.words[access * WORDS + i];
        } else {
            UNROLLED
            for (int i = first; i < first + ELEMENTS; ++i)
                if (i < count) to[i] = run.get(i);
        }
    }
}

// Returns the number of groups of `size` elements that cover `count` elements.
HD int64_t groups_of(int64_t count, int size) { return (count + size - 1) / size; }

// Returns the number of elements of a group of `size` from `first` on that lie below `count`.
HD int elements_from(int64_t first, int64_t count, int size) {
    return static_cast<int>(count - first < size ? count - first : size);
}

// The position of a group's first element in a batch of images. Groups do not cross the end of a row.
struct Place {
    int64_t image;
    int32_t row, column;
};

HD Place place_of(int64_t group, int size, int32_t rows, int32_t width) {
    const int64_t groups_per_row = groups_of(width, size);
    const int64_t row = group / groups_per_row, image = row / rows;
    const int64_t column = (group - row * groups_per_row) * size;
    return {image, static_cast<int32_t>(row - image * rows), static_cast<int32_t>(column)};
}

// Does the work of one thread: `IN_FLIGHT` groups, `BLOCK` groups apart.
template <int IN_FLIGHT, class Operation>
HD void run_thread(const Operation& operation, int64_t block, int thread) {
    const int64_t first = block * (BLOCK * IN_FLIGHT) + thread;
    const int64_t groups = operation.groups();
    typename Operation::Group loaded[IN_FLIGHT] = {};
    UNROLLED
    for (int i = 0; i < IN_FLIGHT; ++i)
        if (first + i * BLOCK < groups) loaded[i] = operation.load(first + i * BLOCK);
    UNROLLED
    for (int i = 0; i < IN_FLIGHT; ++i)
        if (first + i * BLOCK < groups) operation.store(first + i * BLOCK, loaded[i]);
}

#ifdef __CUDACC__

#define KERNEL extern "C" __global__ __launch_bounds__(BLOCK) void
// At most two blocks on a multiprocessor, so that a thread that needs many registers does not spill.
#define LARGE_KERNEL extern "C" __global__ __launch_bounds__(BLOCK, 2) void

template <int IN_FLIGHT, class Operation>
__device__ __forceinline__ void run(const Operation& operation) {
    run_thread<IN_FLIGHT>(operation, blockIdx.x, threadIdx.x);
}

#else

#define KERNEL extern "C" void
#define LARGE_KERNEL KERNEL

// On the host a kernel is a function that does the work of a grid of so many blocks.
inline int64_t grid_on_host = 0;

template <int IN_FLIGHT, class Operation>
void run(const Operation& operation) {
    for (int64_t block = 0; block < grid_on_host; ++block)
        for (int thread = 0; thread < BLOCK; ++thread) run_thread<IN_FLIGHT>(operation, block, thread);
}

#endif
