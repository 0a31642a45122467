// Adds a weighted tile, FP16 or FP32 (C, h, w), to planes, FP32 (C, H, W), to cross-fade overlapping tiles.
//
// Per element it reads 2 or 4 bytes of the tile, and reads and writes 4 bytes of the planes; the windows stay in caches.
// A group is 8 elements of a row of the tile. The weight is the product of a vertical and a horizontal one, so that no
// window of two dimensions is stored. Overlapping tiles need one launch after another: then sums do not depend on timing.
#include "groups.cuh"

template <class T>
struct Blend {
    static constexpr int SIZE = 8;

    const T* tile;
    float* planes;
    const float* window_y;
    const float* window_x;
    int64_t channels;
    int32_t tile_height, tile_width, height, width, top, left;

    struct Group {
        Run<T, SIZE> tile;
        Run<float, SIZE> planes, window_x;
    };

    HD int64_t groups() const { return channels * tile_height * groups_of(tile_width, SIZE); }

    HD Group load(int64_t group) const {
        const Place place = place_of(group, SIZE, tile_height, tile_width);
        const int present = elements_from(place.column, tile_width, SIZE);
        const int64_t row = place.image * tile_height + place.row;
        return {
            load_run<T, SIZE>(tile + row * tile_width + place.column, present),
            load_run<float, SIZE>(planes_at(place), present),
            load_run<float, SIZE>(window_x + place.column, present),
        };
    }

    HD void store(int64_t group, const Group& loaded) const {
        const Place place = place_of(group, SIZE, tile_height, tile_width);
        const float weight_y = window_y[place.row];
        Run<float, SIZE> sums = {};
        UNROLLED
        for (int i = 0; i < SIZE; ++i) {
            const float weight = weight_y * loaded.window_x.get(i);
            sums.set(i, loaded.planes.get(i) + to_float(loaded.tile.get(i)) * weight);
        }
        store_run(planes_at(place), sums, elements_from(place.column, tile_width, SIZE));
    }

    HD float* planes_at(Place place) const {
        return planes + (place.image * height + top + place.row) * width + left + place.column;
    }
};

KERNEL blend_f16(
    const Half* tile, float* planes, const float* window_y, const float* window_x, int64_t channels,
    int32_t tile_height, int32_t tile_width, int32_t height, int32_t width, int32_t top, int32_t left) {
    run<2>(Blend<Half>{
        tile, planes, window_y, window_x, channels, tile_height, tile_width, height, width, top, left});
}

KERNEL blend_f32(
    const float* tile, float* planes, const float* window_y, const float* window_x, int64_t channels,
    int32_t tile_height, int32_t tile_width, int32_t height, int32_t width, int32_t top, int32_t left) {
    run<2>(Blend<float>{
        tile, planes, window_y, window_x, channels, tile_height, tile_width, height, width, top, left});
}
