// Symbols to latents: int16, (N, C, h, w), to FP16 or FP32.
//
// Reads 2 bytes an element, or 3 with points, and writes 2 or 4. A group is 8 elements, cut from the array as a whole:
// one 16-byte read of symbols, one of 8 bytes of points, one or two 16-byte writes.
#include "groups.cuh"

template <class T>
struct Dequantize {
    static constexpr int SIZE = 8;

    const int16_t* symbols;
    const int8_t* points;  // null: `offset` says where the points lie
    T* latents;
    const float* mean;
    const float* delta;
    const float* offset;  // read where there are no points
    int64_t count, plane_size;
    int32_t channels;

    struct Group {
        Run<int16_t, SIZE> symbols;
        Run<int8_t, SIZE> points;
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
        if (points) loaded.points = load_run<int8_t, SIZE>(points + first, present);
        return loaded;
    }

    HD void store(int64_t group, const Group& loaded) const {
        const int64_t first = group * SIZE, plane = first / plane_size;
        if (first + SIZE <= (plane + 1) * plane_size) store_whole(first, channel_of(plane), loaded);
        else store_each(first);
    }

    HD void store_whole(int64_t first, Channel channel, const Group& loaded) const {
        Run<T, SIZE> restored = {};
        UNROLLED
        for (int i = 0; i < SIZE; ++i)
            restored.set(i, from_float<T>(latent_of(loaded.symbols.get(i), loaded.points.get(i), channel)));
        store_run(latents + first, restored, SIZE);
    }

    HD void store_each(int64_t first) const {
        ROLLED
        for (int64_t i = first; i < first + SIZE && i < count; ++i)
            latents[i] = from_float<T>(latent_of(symbols[i], points ? points[i] : 0, channel_of(i / plane_size)));
    }

    HD Channel channel_of(int64_t plane) const {
        const int64_t channel = plane % channels;
        return {mean[channel], delta[channel], points ? 0 : offset[channel]};
    }

    // Either `point` or the offset is 0, and to add 0 changes no bit.
    HD static float latent_of(int16_t symbol, int8_t point, Channel channel) {
        const float sign = symbol > 0 ? 1.0f : symbol < 0 ? -1.0f : 0.0f;
        const float value = symbol + point * (1.0f / 64) - sign * channel.offset;
        return value * channel.delta + channel.mean;
    }
};

KERNEL dequantize_f16(
    const int16_t* symbols, const int8_t* points, Half* latents, const float* mean, const float* delta,
    const float* offset, int64_t count, int64_t plane_size, int32_t channels) {
    run<2>(Dequantize<Half>{symbols, points, latents, mean, delta, offset, count, plane_size, channels});
}

KERNEL dequantize_f32(
    const int16_t* symbols, const int8_t* points, float* latents, const float* mean, const float* delta,
    const float* offset, int64_t count, int64_t plane_size, int32_t channels) {
    run<2>(Dequantize<float>{symbols, points, latents, mean, delta, offset, count, plane_size, channels});
}
