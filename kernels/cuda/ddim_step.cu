// One step of DDIM: a * latents + b * output, FP16 or FP32, (N, ...), with factors a and b for each image of the batch.
//
// It reads two elements and writes one. A group is 8 elements of the flat array, and may cross from one image to the
// next. The result may be written over the latents.
#include "groups.cuh"

template <class T>
struct DdimStep {
    static constexpr int SIZE = 8;

    const T* latents;
    const T* output;  // of the UNet
    T* stepped;
    const float* a;
    const float* b;
    int64_t count, image_size;  // elements, of all and of an image

    struct Group {
        Run<T, SIZE> latents, output;
    };

    struct Factors {
        float a, b;
    };

    HD int64_t groups() const { return groups_of(count, SIZE); }

    HD Group load(int64_t group) const {
        const int64_t first = group * SIZE;
        const int present = elements_from(first, count, SIZE);
        return {load_run<T, SIZE>(latents + first, present), load_run<T, SIZE>(output + first, present)};
    }

    HD void store(int64_t group, const Group& loaded) const {
        const int64_t first = group * SIZE, image = first / image_size;
        if (first + SIZE <= (image + 1) * image_size) store_whole(first, {a[image], b[image]}, loaded);
        else store_each(first);
    }

    HD void store_whole(int64_t first, Factors factors, const Group& loaded) const {
        Run<T, SIZE> results = {};
        UNROLLED
        for (int i = 0; i < SIZE; ++i) results.set(i, stepped_of(loaded.latents.get(i), loaded.output.get(i), factors));
        store_run(stepped + first, results, SIZE);
    }

    HD void store_each(int64_t first) const {
        ROLLED
        for (int64_t i = first; i < first + SIZE && i < count; ++i) {
            const int64_t image = i / image_size;
            stepped[i] = stepped_of(latents[i], output[i], {a[image], b[image]});
        }
    }

    HD static T stepped_of(T latent, T output, Factors factors) {
        return from_float<T>(factors.a * to_float(latent) + factors.b * to_float(output));
    }
};

KERNEL ddim_step_f16(
    const Half* latents, const Half* output, Half* stepped, const float* a, const float* b, int64_t count,
    int64_t image_size) {
    run<2>(DdimStep<Half>{latents, output, stepped, a, b, count, image_size});
}

KERNEL ddim_step_f32(
    const float* latents, const float* output, float* stepped, const float* a, const float* b, int64_t count,
    int64_t image_size) {
    run<2>(DdimStep<float>{latents, output, stepped, a, b, count, image_size});
}
