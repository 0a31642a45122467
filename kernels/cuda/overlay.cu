// Replaces pixels by an overlay, uint8 (N, H, W, 4), where the overlay is opaque. Pixels are uint8 rows of 3 or 4
// interleaved channels, a stride apart.
//
// It reads 4 bytes of the overlay per pixel. A group is 16 pixels of a row. Most overlays are nearly empty, therefore a
// group reads and writes its pixels only if one of them is covered. So `load` reads the overlay alone.
#include "groups.cuh"

template <int CHANNELS>
struct ApplyOverlay {
    static constexpr int SIZE = 16, COLOUR_CHANNELS = 3, OVERLAY_CHANNELS = 4;
    using Group = Run<uint8_t, SIZE * OVERLAY_CHANNELS>;

    const uint8_t* overlay;
    uint8_t* pixels;
    int64_t image_stride, row_stride;  // bytes, of pixels
    int64_t images;
    int32_t height, width;

    HD int64_t groups() const { return images * height * groups_of(width, SIZE); }

    HD Place place(int64_t group) const { return place_of(group, SIZE, height, width); }

    HD Group load(int64_t group) const {
        const Place at = place(group);
        const int64_t pixel = (at.image * height + at.row) * width + at.column;
        const int count = elements_from(at.column, width, SIZE) * OVERLAY_CHANNELS;
        return load_run<uint8_t, SIZE * OVERLAY_CHANNELS>(overlay + pixel * OVERLAY_CHANNELS, count);
    }

    HD void store(int64_t group, const Group& loaded) const {
        bool opaque = false;
        UNROLLED
        for (int i = 0; i < SIZE; ++i) opaque |= is_opaque(loaded, i);
        if (!opaque) return;
        const Place at = place(group);
        const int count = elements_from(at.column, width, SIZE) * CHANNELS;
        uint8_t* first = pixels + at.image * image_stride + at.row * row_stride + int64_t{at.column} * CHANNELS;
        auto covered = load_run<uint8_t, SIZE * CHANNELS>(first, count);
        UNROLLED
        for (int i = 0; i < SIZE; ++i) {
            UNROLLED
            for (int channel = 0; channel < COLOUR_CHANNELS; ++channel) {
                const uint8_t below = covered.get(i * CHANNELS + channel);
                const uint8_t above = loaded.get(i * OVERLAY_CHANNELS + channel);
                covered.set(i * CHANNELS + channel, is_opaque(loaded, i) ? above : below);
            }
        }
        store_run(first, covered, count);
    }

    // Pixels beyond the end of a row are read as 0: they are not opaque.
    HD static bool is_opaque(const Group& overlay, int pixel) {
        return overlay.get(pixel * OVERLAY_CHANNELS + OVERLAY_CHANNELS - 1) == 255;
    }
};

KERNEL apply_overlay_rgb(
    const uint8_t* overlay, uint8_t* pixels, int64_t image_stride, int64_t row_stride, int64_t images, int32_t height,
    int32_t width) {
    run<1>(ApplyOverlay<3>{overlay, pixels, image_stride, row_stride, images, height, width});
}

KERNEL apply_overlay_rgba(
    const uint8_t* overlay, uint8_t* pixels, int64_t image_stride, int64_t row_stride, int64_t images, int32_t height,
    int32_t width) {
    run<1>(ApplyOverlay<4>{overlay, pixels, image_stride, row_stride, images, height, width});
}
