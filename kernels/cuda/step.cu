// One step of denoising: a * latents + b * output, FP16 or FP32, (N, ...), with an a and a b for each of the N.
//
// Reads twice what it writes. A group is 8 elements, cut from the array as a whole. May be done in place.
#include "groups.cuh"

template <class T>
struct Step {
    static constexpr int SIZE = 8;

    const T* latents;
    const T* output;  // of the network
    T* stepped;
    const float* a;
    const float* b;
    int64_t count, entry_size;

    struct Group {
        Run<T, SIZE> latents, output;
    };

    struct Entry {
        float a, b;
    };

    HD int64_t groups() const { return groups_of(count, SIZE); }

    HD Group load(int64_t group) const {
        const int64_t first = group * SIZE;
        const int present = elements_from(first, count, SIZE);
        return {load_run<T, SIZE>(latents + first, present), load_run<T, SIZE>(output + first, present)};
    }

    HD void store(int64_t group, const Group& loaded) const {
        const int64_t first = group * SIZE, entry = first / entry_size;
        if (first + SIZE <= (entry + 1) * entry_size) store_whole(first, {a[entry], b[entry]}, loaded);
        else store_each(first);
    }

    HD void store_whole(int64_t first, Entry entry, const Group& loaded) const {
        Run<T, SIZE> moved = {};
        UNROLLED
        for (int i = 0; i < SIZE; ++i) moved.set(i, stepped_of(loaded.latents.get(i), loaded.output.get(i), entry));
        store_run(stepped + first, moved, SIZE);
    }

    HD void store_each(int64_t first) const {
        ROLLED
        for (int64_t i = first; i < first + SIZE && i < count; ++i) {
            const int64_t entry = i / entry_size;
            stepped[i] = stepped_of(latents[i], output[i], {a[entry], b[entry]});
        }
    }

    HD static T stepped_of(T latent, T output, Entry entry) {
        return from_float<T>(entry.a * to_float(latent) + entry.b * to_float(output));
    }
};

KERNEL step_f16(
    const Half* latents, const Half* output, Half* stepped, const float* a, const float* b, int64_t count,
    int64_t entry_size) {
    run<2>(Step<Half>{latents, output, stepped, a, b, count, entry_size});
}

KERNEL step_f32(
    const float* latents, const float* output, float* stepped, const float* a, const float* b, int64_t count,
    int64_t entry_size) {
    run<2>(Step<float>{latents, output, stepped, a, b, count, entry_size});
}
