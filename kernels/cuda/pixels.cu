// Pixels to planes and back. Pixels are uint8 rows of interleaved channels, a stride apart; planes are FP16 or FP32,
// (N, 3, H', W').
//
// With FP16, a pixel has 1 to 4 bytes in one layout and 6 in the other. A group is 16 pixels of a row. With three
// channels a group takes three 16-byte accesses to pixels, and two (FP16) or four (FP32) to each plane. Channels are
// separated in registers. A group needs several accesses anyway, so that a thread has only one group in flight.
#include "groups.cuh"

// The arguments of both directions.
template <class Byte, class Value>
struct Images {
    static constexpr int SIZE = 16, PLANES = 3;

    Byte* pixels;
    Value* planes;
    int64_t image_stride, row_stride;  // bytes
    int64_t images;
    int32_t height, width, padded_height, padded_width;

    HD Byte* row_of(int64_t image, int32_t row) const { return pixels + image * image_stride + row * row_stride; }

    HD Value* plane_at(Place place, int plane) const {
        const int64_t row = (place.image * PLANES + plane) * padded_height + place.row;
        return planes + row * padded_width + place.column;
    }

    // Returns the number of elements of a group that lie within a row of the planes.
    HD int padded_from(int32_t column) const { return elements_from(column, padded_width, SIZE); }
};

// One channel is grey, and copied to all planes; the last of four channels is alpha, and ignored.
template <class T, int CHANNELS>
struct PixelsToPlanes : Images<const uint8_t, T> {
    using Base = Images<const uint8_t, T>;
    static constexpr int SIZE = Base::SIZE;
    using Group = Run<uint8_t, SIZE * CHANNELS>;

    float scale, low;

    HD int64_t groups() const { return this->images * this->padded_height * groups_of(this->padded_width, SIZE); }

    HD Place place(int64_t group) const { return place_of(group, SIZE, this->padded_height, this->padded_width); }

    HD Group load(int64_t group) const {
        const Place at = place(group);
        const int32_t last_row = this->height - 1, last_column = this->width - 1;
        const uint8_t* row = this->row_of(at.image, at.row < last_row ? at.row : last_row);
        if (at.column + SIZE <= this->width)
            return load_run<uint8_t, SIZE * CHANNELS>(row + int64_t{at.column} * CHANNELS, SIZE * CHANNELS);
        Group repeated = {};
        UNROLLED
        for (int i = 0; i < SIZE; ++i) {
            const int64_t column = at.column + i < last_column ? at.column + i : last_column;
            UNROLLED
            for (int c = 0; c < CHANNELS; ++c) repeated.set(i * CHANNELS + c, row[column * CHANNELS + c]);
        }
        return repeated;
    }

    HD void store(int64_t group, const Group& loaded) const {
        const Place at = place(group);
        UNROLLED
        for (int plane = 0; plane < Base::PLANES; ++plane) {
            Run<T, SIZE> values = {};
            UNROLLED
            for (int i = 0; i < SIZE; ++i) {
                const uint8_t value = loaded.get(CHANNELS == 1 ? i : i * CHANNELS + plane);
                values.set(i, from_float<T>(value * scale + low));
            }
            store_run(this->plane_at(at, plane), values, this->padded_from(at.column));
        }
    }
};

// The last of four channels is alpha, and set to 255.
template <class T, int CHANNELS>
struct PlanesToPixels : Images<uint8_t, const T> {
    using Base = Images<uint8_t, const T>;
    static constexpr int SIZE = Base::SIZE;

    float low, scale;
    uint32_t* flags;

    struct Group {
        Run<T, SIZE> planes[Base::PLANES];
    };

    HD int64_t groups() const { return this->images * this->height * groups_of(this->width, SIZE); }

    HD Place place(int64_t group) const { return place_of(group, SIZE, this->height, this->width); }

    HD Group load(int64_t group) const {
        const Place at = place(group);
        Group loaded = {};
        UNROLLED
        for (int plane = 0; plane < Base::PLANES; ++plane)
            loaded.planes[plane] = load_run<T, SIZE>(this->plane_at(at, plane), this->padded_from(at.column));
        return loaded;
    }

    HD void store(int64_t group, const Group& loaded) const {
        const Place at = place(group);
        const int present = elements_from(at.column, this->width, SIZE);
        Run<uint8_t, SIZE * CHANNELS> pixels = {};
        bool finite = true;
        UNROLLED
        for (int i = 0; i < SIZE; ++i) {
            UNROLLED
            for (int plane = 0; plane < Base::PLANES; ++plane) {
                const float value = to_float(loaded.planes[plane].get(i));
                finite &= i >= present || is_finite(value);
                pixels.set(i * CHANNELS + plane, pixel_value_of(value));
            }
            if (CHANNELS > Base::PLANES) pixels.set(i * CHANNELS + CHANNELS - 1, 255);
        }
        store_run(this->row_of(at.image, at.row) + int64_t{at.column} * CHANNELS, pixels, present * CHANNELS);
        raise_flags(flags, finite ? 0 : NOT_FINITE);
    }

    // NaN becomes 0: fmaxf of a number and NaN returns the number.
    HD uint8_t pixel_value_of(float value) const {
        return static_cast<uint8_t>(nearest_integer(fminf(fmaxf((value - low) * scale, 0.0f), 255.0f)));
    }
};

// A kernel for each type of planes and each number of channels.

#define PIXELS_TO_PLANES(NAME, T, CHANNELS)                                                                          \
    KERNEL NAME(                                                                                                     \
        const uint8_t* pixels, T* planes, int64_t image_stride, int64_t row_stride, int64_t images, int32_t height,  \
        int32_t width, int32_t padded_height, int32_t padded_width, float scale, float low) {                        \
        run<1>(PixelsToPlanes<T, CHANNELS>{                                                                          \
            {pixels, planes, image_stride, row_stride, images, height, width, padded_height, padded_width}, scale,   \
            low});                                                                                                   \
    }

#define PLANES_TO_PIXELS(NAME, T, CHANNELS)                                                                          \
    KERNEL NAME(                                                                                                     \
        uint8_t* pixels, const T* planes, int64_t image_stride, int64_t row_stride, int64_t images, int32_t height,  \
        int32_t width, int32_t padded_height, int32_t padded_width, float low, float scale, uint32_t* flags) {       \
        run<1>(PlanesToPixels<T, CHANNELS>{                                                                          \
            {pixels, planes, image_stride, row_stride, images, height, width, padded_height, padded_width}, low,     \
            scale, flags});                                                                                          \
    }

PIXELS_TO_PLANES(grey_to_planes_f16, Half, 1)
PIXELS_TO_PLANES(grey_to_planes_f32, float, 1)
PIXELS_TO_PLANES(rgb_to_planes_f16, Half, 3)
PIXELS_TO_PLANES(rgb_to_planes_f32, float, 3)
PIXELS_TO_PLANES(rgba_to_planes_f16, Half, 4)
PIXELS_TO_PLANES(rgba_to_planes_f32, float, 4)

PLANES_TO_PIXELS(planes_to_rgb_f16, Half, 3)
PLANES_TO_PIXELS(planes_to_rgb_f32, float, 3)
PLANES_TO_PIXELS(planes_to_rgba_f16, Half, 4)
PLANES_TO_PIXELS(planes_to_rgba_f32, float, 4)
