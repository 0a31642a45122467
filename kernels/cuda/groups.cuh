// How kernels share out their work, and how they read and write memory.
//
// The work of a kernel is cut into *groups* of a few neighbouring elements, so many that a group is read and written
// in whole 16-byte accesses: what a thread can ask for at most, and what keeps most bytes in flight. Each access looks
// for itself whether its elements are all there and aligned, and goes narrower if not: to 4 bytes, then to single
// elements. Arrays may have any size and begin anywhere.
//
// An operation is a struct of its arguments with
//     using Group                     what a group reads
//     groups()                        how many groups there are
//     load(group)                     reads
//     store(group, loaded)            calculates and writes
// and `run` does all groups. Parting `load` from `store` lets a thread ask for several groups before it waits for one.
#pragma once

#include "arithmetic.cuh"

// Threads of a block.
constexpr int BLOCK = 256;

// What is indexed by a loop's counter stays in registers only if the loop is gone.
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

// N elements in registers, packed as in memory. Indices must be known to the compiler, else it all moves to memory.
template <class T, int N>
struct Run {
    static constexpr int NBYTES = N * sizeof(T), PER_WORD = 4 / sizeof(T);
    static constexpr int ACCESS = NBYTES < 16 ? NBYTES : 16;  // bytes
    static_assert(NBYTES % ACCESS == 0 && ACCESS % 4 == 0, "a run is a number of whole accesses");

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

// Reads the first `count` elements at `from`; the rest of the run is 0.
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

// How many groups of `size` elements it takes to hold `count`.
HD int64_t groups_of(int64_t count, int size) { return (count + size - 1) / size; }

// How many elements of a group of `size` that begins at `first` there are, of `count` in all.
HD int elements_from(int64_t first, int64_t count, int size) {
    return static_cast<int>(count - first < size ? count - first : size);
}

// Where a group lies that is cut from a row, in one of several images of `rows` rows of `width` elements.
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

// Does what one thread is there for: `IN_FLIGHT` groups, a block's width apart.
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
// Two blocks at once, not three: a thread that needs many registers has them, and spills none.
#define LARGE_KERNEL extern "C" __global__ __launch_bounds__(BLOCK, 2) void

template <int IN_FLIGHT, class Operation>
__device__ __forceinline__ void run(const Operation& operation) {
    run_thread<IN_FLIGHT>(operation, blockIdx.x, threadIdx.x);
}

#else

#define KERNEL extern "C" void
#define LARGE_KERNEL KERNEL

// On the host a kernel is a function that does the work of a whole grid, of this many blocks.
inline int64_t grid_on_host = 0;

template <int IN_FLIGHT, class Operation>
void run(const Operation& operation) {
    for (int64_t block = 0; block < grid_on_host; ++block)
        for (int thread = 0; thread < BLOCK; ++thread) run_thread<IN_FLIGHT>(operation, block, thread);
}

#endif
