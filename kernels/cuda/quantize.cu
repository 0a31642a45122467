// Latents to symbols: FP16 or FP32 (N, C, h, w) to int16.
//
// Per element it reads 2 or 4 bytes and writes 2. A group is 8 elements: one 16-byte read of FP16, two of FP32, and one
// 16-byte write. Groups are cut from the flat array, not from each plane, so that they are aligned for any size of a
// plane. Because of its divisions this kernel could be limited by arithmetic. Therefore the common case, a group of one
// channel whose symbols are all in range, has a path of its own; other groups are quantized element by element.
#include "groups.cuh"

template <class T>
struct Quantize {
    static constexpr int SIZE = 8;
    using Group = Run<T, SIZE>;

    const T* latents;
    int16_t* symbols;
    const float* mean;
    const float* delta;
    uint32_t* flags;
    int64_t count, plane_size;
    int32_t channels;
    float rounding;

    struct Channel {
        float mean, delta;
    };

    HD int64_t groups() const { return groups_of(count, SIZE); }

    HD Group load(int64_t group) const {
        const int64_t first = group * SIZE;
        return load_run<T, SIZE>(latents + first, elements_from(first, count, SIZE));
    }

    HD void store(int64_t group, const Group& loaded) const {
        const int64_t first = group * SIZE, plane = first / plane_size;
        const bool one_plane = first + SIZE <= (plane + 1) * plane_size;
        if (!one_plane || !store_whole(first, channel_of(plane), loaded)) store_each(first);
    }

    // Writes a group of one channel. Returns false, and writes nothing, if a symbol is out of range.
    HD bool store_whole(int64_t first, Channel channel, const Group& loaded) const {
        float scaled[SIZE];
        bool in_range = true;
        UNROLLED
        for (int i = 0; i < SIZE; ++i) {
            scaled[i] = (to_float(loaded.get(i)) - channel.mean) / channel.delta;
            in_range &= fabsf(scaled[i]) <= LARGEST_SYMBOL;
        }
        if (!in_range) return false;
        Run<int16_t, SIZE> rounded = {};
        UNROLLED
        for (int i = 0; i < SIZE; ++i) rounded.set(i, symbol_of(scaled[i]));
        store_run(symbols + first, rounded, SIZE);
        return true;
    }

    HD void store_each(int64_t first) const {
        uint32_t raised = 0;
        ROLLED
        for (int64_t i = first; i < first + SIZE && i < count; ++i) {
            const Channel channel = channel_of(i / plane_size);
            const float scaled = (to_float(latents[i]) - channel.mean) / channel.delta;
            const float clamped = fminf(fmaxf(scaled, -LARGEST_SYMBOL), LARGEST_SYMBOL);
            if (!is_finite(scaled)) raised |= NOT_FINITE;
            else if (clamped != scaled) raised |= SATURATED;
            symbols[i] = is_finite(scaled) ? symbol_of(clamped) : 0;
        }
        raise_flags(flags, raised);
    }

    HD Channel channel_of(int64_t plane) const {
        const int64_t channel = plane % channels;
        return {mean[channel], delta[channel]};
    }

    // The conversion truncates: with the sign copied back, that is the floor of the magnitude.
    HD int16_t symbol_of(float scaled) const {
        return static_cast<int16_t>(static_cast<int32_t>(copysignf(fabsf(scaled) + rounding, scaled)));
    }
};

KERNEL quantize_f16(
    const Half* latents, int16_t* symbols, const float* mean, const float* delta, uint32_t* flags, int64_t count,
    int64_t plane_size, int32_t channels, float rounding) {
    run<2>(Quantize<Half>{latents, symbols, mean, delta, flags, count, plane_size, channels, rounding});
}

KERNEL quantize_f32(
    const float* latents, int16_t* symbols, const float* mean, const float* delta, uint32_t* flags, int64_t count,
    int64_t plane_size, int32_t channels, float rounding) {
    run<2>(Quantize<float>{latents, symbols, mean, delta, flags, count, plane_size, channels, rounding});
}
