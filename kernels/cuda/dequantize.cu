// Symbols to latents: int16 (N, C, h, w) to FP16 or FP32.
//
// Per element it reads 2 bytes, or 3 with reconstruction offsets, and writes 2 or 4. A group is 8 elements of the flat
// array: one 16-byte read of symbols, one 8-byte read of offsets, one or two 16-byte writes.
#include "groups.cuh"

template <class T>
struct Dequantize {
    static constexpr int SIZE = 8;

    const int16_t* symbols;
    const int8_t* recon_offsets;  // in 1/64 step; null: `channel_offsets` are used
    T* latents;
    const float* mean;
    const float* delta;
    const float* channel_offsets;  // towards zero, in steps; read if `recon_offsets` are null
    int64_t count, plane_size;
    int32_t channels;

    struct Group {
        Run<int16_t, SIZE> symbols;
        Run<int8_t, SIZE> recon_offsets;
    };

    struct Channel {
        float mean, delta, offset;
    };

    HD int64_t groups() const { return groups_of(count, SIZE); }

    HD Group load(int64_t group) const {
        const int64_t first = group * SIZE;
        const int present = elements_from(first, count, SIZE);
        Group loaded = {};
        loaded.symbols = load_run<int16_t, SIZE>(symbols + first, present);
        if (recon_offsets) loaded.recon_offsets = load_run<int8_t, SIZE>(recon_offsets + first, present);
        return loaded;
    }

    HD void store(int64_t group, const Group& loaded) const {
        const int64_t first = group * SIZE, plane = first / plane_size;
        if (first + SIZE <= (plane + 1) * plane_size) store_whole(first, channel_of(plane), loaded);
        else store_each(first);
    }

    HD void store_whole(int64_t first, Channel channel, const Group& loaded) const {
        Run<T, SIZE> results = {};
        UNROLLED
        for (int i = 0; i < SIZE; ++i)
            results.set(i, from_float<T>(latent_of(loaded.symbols.get(i), loaded.recon_offsets.get(i), channel)));
        store_run(latents + first, results, SIZE);
    }

    HD void store_each(int64_t first) const {
        ROLLED
        for (int64_t i = first; i < first + SIZE && i < count; ++i) {
            const int8_t recon_offset = recon_offsets ? recon_offsets[i] : 0;
            latents[i] = from_float<T>(latent_of(symbols[i], recon_offset, channel_of(i / plane_size)));
        }
    }

    HD Channel channel_of(int64_t plane) const {
        const int64_t channel = plane % channels;
        return {mean[channel], delta[channel], recon_offsets ? 0 : channel_offsets[channel]};
    }

    // One of the two offsets is 0, and adding 0 changes no bit.
    HD static float latent_of(int16_t symbol, int8_t recon_offset, Channel channel) {
        const float sign = symbol > 0 ? 1.0f : symbol < 0 ? -1.0f : 0.0f;
        const float value = symbol + recon_offset * (1.0f / 64) - sign * channel.offset;
        return value * channel.delta + channel.mean;
    }
};

KERNEL dequantize_f16(
    const int16_t* symbols, const int8_t* recon_offsets, Half* latents, const float* mean, const float* delta,
    const float* channel_offsets, int64_t count, int64_t plane_size, int32_t channels) {
    run<2>(Dequantize<Half>{symbols, recon_offsets, latents, mean, delta, channel_offsets, count, plane_size, channels});
}

KERNEL dequantize_f32(
    const int16_t* symbols, const int8_t* recon_offsets, float* latents, const float* mean, const float* delta,
    const float* channel_offsets, int64_t count, int64_t plane_size, int32_t channels) {
    run<2>(Dequantize<float>{symbols, recon_offsets, latents, mean, delta, channel_offsets, count, plane_size, channels});
}
