// The Python module `sdtrt.kernels._core`. In Python core_prior.py, core_streams.py, residual_codec.py and core.py call
// its functions.
#include "python_arguments.h"

#include "priors/prior_arrays.h"
#include "residual.h"
#include "simd/instruction_sets.h"
#include "stream.h"

namespace sdtrt {

namespace {

constexpr const char* TABLES = "sdtrt.Tables";
constexpr const char* PRIOR = "sdtrt.Prior";
constexpr const char* RESIDUAL = "sdtrt.ResidualModel";
constexpr long INTERFACE = 1;  // another number for each change of the functions; core.py has the same
constexpr int MAX_THREADS = 256;

PyObject* make_tables(PyObject* arguments) {
    int rows, bins;
    PyObject *modes_, *mode_weights_, *rest_, *low_bits_, *centroids_, *costs_;
    parse(arguments, "iiOOOOOO", &rows, &bins, &modes_, &mode_weights_, &rest_, &low_bits_, &centroids_, &costs_);
    if (rows < 1 || rows > MAX_ROWS || bins < 2 || bins > MAX_BINS) throw std::invalid_argument("size of tables");
    const int64_t size = int64_t(rows) * bins;
    const Array<const int32_t> modes(modes_, "modes", rows), low_bits(low_bits_, "low_bits", rows);
    const Array<const uint32_t> mode_weights(mode_weights_, "mode_weights", rows), rest(rest_, "rest", size);
    const OptionalArray<const int8_t> centroids(centroids_, "centroids", size);
    const Array<const float> costs(costs_, "costs", size);
    return to_capsule(std::make_shared<const Tables>(rows, bins, modes.data(), mode_weights.data(), rest.data(),
                                                     low_bits.data(), centroids.data(), costs.data()),
                      TABLES);
}

PyObject* item(PyObject* list, Py_ssize_t n) { return checked(PyList_GetItem(list, n)); }

std::vector<PassNumbers> read_passes(PyObject* list) {
    std::vector<PassNumbers> passes;
    for (Py_ssize_t n = 0; n < PyList_Size(list); ++n) {
        passes.push_back(Array<const int32_t>(item(list, n), "numbers of a pass").to_vector());
    }
    return passes;
}

NetworkArrays read_network(PyObject* arrays) {
    PyObject *first, *first_bias, *second, *second_bias, *output;
    parse(arrays, "OOOOO", &first, &first_bias, &second, &second_bias, &output);
    return {Array<const int16_t>(first, "first").to_vector(),
            Array<const int32_t>(first_bias, "first_bias").to_vector(),
            Array<const int16_t>(second, "second").to_vector(),
            Array<const int32_t>(second_bias, "second_bias").to_vector(),
            Array<const int16_t>(output, "output").to_vector()};
}

PyObject* network_prior(PyObject* arguments) {
    PyObject *tables, *order_, *passes, *networks_, *magnitude_;
    parse(arguments, "OOO!O!O", &tables, &order_, &PyList_Type, &passes, &PyList_Type, &networks_, &magnitude_);
    const std::vector<int32_t> order = Array<const int32_t>(order_, "order").to_vector();
    const Array<const int32_t> magnitude(magnitude_, "magnitude", LATENT_LIMIT + 1);
    std::vector<NetworkArrays> networks;
    for (Py_ssize_t n = 0; n < PyList_Size(networks_); ++n) networks.push_back(read_network(item(networks_, n)));
    return to_capsule<Prior>(
        make_network_prior(from_capsule<const Tables>(tables, TABLES), {order.begin(), order.end()},
                           read_passes(passes), networks, magnitude.data()),
        PRIOR);
}

PyObject* adaptive_prior(PyObject* arguments) {
    PyObject *tables, *passes, *parameters_, *magnitude_;
    parse(arguments, "OO!OO", &tables, &PyList_Type, &passes, &parameters_, &magnitude_);
    const std::vector<uint8_t> parameters = Array<const uint8_t>(parameters_, "parameters").to_vector();
    const Array<const int32_t> magnitude(magnitude_, "magnitude", AdaptivePrior::MAGNITUDES);
    return to_capsule<Prior>(make_adaptive_prior(from_capsule<const Tables>(tables, TABLES), read_passes(passes),
                                                 parameters, magnitude.data()),
                             PRIOR);
}

// Reads the parameters of a tile in the order of `tile_numbers` in core_prior.py.
TileParameters read_tile(PyObject* object, const Prior& prior) {
    const Array<const int64_t> numbers(object, "tile", 10 + KNOTS);
    for (int n = 0; n < 3; ++n) {
        if (numbers[n] < 1 || numbers[n] > TILE_SIDE_LIMIT) throw std::invalid_argument("size of a tile");
    }
    if (numbers[0] != int64_t(prior.order.size()) || numbers[0] * numbers[1] * numbers[2] > TILE_SIZE_LIMIT) {
        throw std::invalid_argument("size of a tile");
    }
    TileParameters tile;
    tile.shape = {int(numbers[0]), int(numbers[1]), int(numbers[2])};
    tile.edges = {numbers[3] != 0, numbers[4] != 0, numbers[5] != 0, numbers[6] != 0};
    tile.step_code = int(clamped<int64_t>(numbers[7], 0, 4096));
    tile.step = clamped<int64_t>(numbers[8], 0, int64_t(1) << 31);
    tile.inverse_step = clamped<int64_t>(numbers[9], 0, int64_t(1) << 31);
    for (int n = 0; n < KNOTS; ++n) tile.features[n] = int32_t(clamped<int64_t>(numbers[10 + n], 0, 127));
    return tile;
}

int64_t size_of(const TileParameters& tile) {
    return int64_t(tile.shape.channels) * tile.shape.height * tile.shape.width;
}

int checked_threads(int threads) { return clamped(threads, 1, MAX_THREADS); }

PyObject* decode(PyObject* arguments) {
    PyObject *prior_, *tile_, *words_, *cuts_, *words_after_cuts_, *symbols_, *offsets_;
    ReadRules rules;
    int salvages, is_unreadable, threads;
    parse(arguments, "OOOiOOiiiiOO", &prior_, &tile_, &words_, &rules.end, &cuts_, &words_after_cuts_, &salvages,
          &rules.complete_passes, &is_unreadable, &threads, &symbols_, &offsets_);
    const auto prior = from_capsule<Prior>(prior_, PRIOR);
    const TileParameters tile = read_tile(tile_, *prior);
    const Array<const uint32_t> words(words_, "words");
    const std::vector<int32_t> cuts = Array<const int32_t>(cuts_, "cuts").to_vector();
    rules.cuts.assign(cuts.begin(), cuts.end());
    rules.words_after_cuts = Array<const int64_t>(words_after_cuts_, "words_after_cuts").to_vector();
    rules.salvages = salvages != 0;
    rules.is_unreadable = is_unreadable != 0;
    const Array<int16_t> symbols(symbols_, "symbols", size_of(tile));
    const OptionalArray<int32_t> offsets(offsets_, "offsets", size_of(tile));
    ReadResult result;
    {
        const Unlocked unlocked;
        result = decode_stream(*prior, tile, words.data(), size_t(words.size()), rules, checked_threads(threads),
                               symbols.data(), offsets.data());
    }
    return checked(Py_BuildValue("iiiiiiii", int(result.damage), result.announced, result.passes_read,
                                 result.passes_missing, int(result.is_at_end), int(result.is_exhausted),
                                 int(result.was_exhausted), int(result.last_pass_is_zero)));
}

// The symbols or latents of a tile to encode.
struct SourceArrays {
    SourceArrays(PyObject* symbols, PyObject* scaled, double lambda, PyObject* lambda_map, const TileParameters& tile)
        : symbols(symbols, "symbols", size_of(tile)),
          scaled(scaled, "scaled", size_of(tile)),
          lambda_map(lambda_map, "lambda_map", int64_t(tile.shape.height) * tile.shape.width),
          source{this->symbols.data(), this->scaled.data(), float(lambda), this->lambda_map.data()} {}

    OptionalArray<const int16_t> symbols;
    OptionalArray<const float> scaled, lambda_map;
    SymbolSource source;
};

PyObject* encode(PyObject* arguments) {
    PyObject *prior_, *tile_, *symbols, *scaled, *lambda_map, *cuts_;
    double lambda;
    int count, threads;
    parse(arguments, "OOOOdOiOi", &prior_, &tile_, &symbols, &scaled, &lambda, &lambda_map, &count, &cuts_, &threads);
    const auto prior = from_capsule<Prior>(prior_, PRIOR);
    const TileParameters tile = read_tile(tile_, *prior);
    const SourceArrays arrays(symbols, scaled, lambda, lambda_map, tile);
    if (!arrays.source.symbols && !arrays.source.scaled) throw std::invalid_argument("neither symbols nor latents");
    const std::vector<int32_t> numbers = Array<const int32_t>(cuts_, "cuts").to_vector();
    const std::vector<int> cuts(numbers.begin(), numbers.end());
    EncodedStream stream;
    {
        const Unlocked unlocked;
        stream = encode_stream(*prior, tile, arrays.source, count, cuts, checked_threads(threads));
    }
    PyObject* words = checked(PyList_New(0));
    for (int64_t number : stream.words_after_cuts) {
        PyObject* one = PyLong_FromLongLong(number);
        const bool failed = !one || PyList_Append(words, one);
        Py_XDECREF(one);
        if (failed) {
            Py_DECREF(words);
            throw PythonError();
        }
    }
    return checked(Py_BuildValue("y#N", stream.data.data(), Py_ssize_t(stream.data.size()), words));
}

PyObject* quantize_latents(PyObject* arguments) {
    PyObject *prior_, *tile_, *scaled, *lambda_map, *symbols_;
    double lambda;
    int threads;
    parse(arguments, "OOOdOiO", &prior_, &tile_, &scaled, &lambda, &lambda_map, &threads, &symbols_);
    const auto prior = from_capsule<Prior>(prior_, PRIOR);
    const TileParameters tile = read_tile(tile_, *prior);
    const SourceArrays arrays(Py_None, scaled, lambda, lambda_map, tile);
    if (!arrays.source.scaled) throw std::invalid_argument("no latents");
    const Array<int16_t> symbols(symbols_, "symbols", size_of(tile));
    {
        const Unlocked unlocked;
        quantize(*prior, tile, arrays.source, checked_threads(threads), symbols.data());
    }
    Py_RETURN_NONE;
}

PyObject* costs_of_symbols(PyObject* arguments) {
    PyObject *prior_, *tile_, *symbols, *scaled, *bits_, *remainder_, *error_;
    int threads;
    parse(arguments, "OOOOiOOO", &prior_, &tile_, &symbols, &scaled, &threads, &bits_, &remainder_, &error_);
    const auto prior = from_capsule<Prior>(prior_, PRIOR);
    const TileParameters tile = read_tile(tile_, *prior);
    const SourceArrays arrays(symbols, scaled, 0, Py_None, tile);
    if (!arrays.source.symbols || !arrays.source.scaled) throw std::invalid_argument("no symbols or no latents");
    const Array<float> bits(bits_, "bits", size_of(tile)), remainder(remainder_, "remainder", size_of(tile)),
        error(error_, "error", size_of(tile));
    {
        const Unlocked unlocked;
        rate_and_distortion(*prior, tile, arrays.source, checked_threads(threads), bits.data(), remainder.data(),
                            error.data());
    }
    Py_RETURN_NONE;
}

PyObject* fit_adaptive_prior(PyObject* arguments) {
    PyObject *prior_, *tile_, *symbols_, *costs_;
    parse(arguments, "OOOO", &prior_, &tile_, &symbols_, &costs_);
    const auto prior = std::dynamic_pointer_cast<AdaptivePrior>(from_capsule<Prior>(prior_, PRIOR));
    if (!prior) throw std::invalid_argument("no adaptive prior");
    const TileParameters tile = read_tile(tile_, *prior);
    const Array<const int16_t> symbols(symbols_, "symbols", size_of(tile));
    const Array<const int32_t> costs(costs_, "costs", int64_t(prior->tables->rows()) * prior->tables->bins());
    std::vector<uint8_t> parameters;
    {
        const Unlocked unlocked;
        parameters = fit_adaptive(*prior, tile, symbols.data(), costs.data());
    }
    return checked(
        PyBytes_FromStringAndSize(reinterpret_cast<const char*>(parameters.data()), Py_ssize_t(parameters.size())));
}

PyObject* make_residual_model(PyObject* arguments) {
    PyObject *tables, *weights, *offsets, *magnitude, *matrix, *zigzag;
    parse(arguments, "OOOOOO", &tables, &weights, &offsets, &magnitude, &matrix, &zigzag);
    auto model = std::make_shared<ResidualModel>();
    model->tables = from_capsule<const Tables>(tables, TABLES);
    model->weights = Array<const int32_t>(weights, "weights").to_vector();
    model->offsets = Array<const int32_t>(offsets, "offsets").to_vector();
    model->magnitude = Array<const int32_t>(magnitude, "magnitude").to_vector();
    model->matrix = Array<const int32_t>(matrix, "matrix").to_vector();
    model->zigzag = Array<const int32_t>(zigzag, "zigzag").to_vector();
    model->check();
    return to_capsule(std::move(model), RESIDUAL);
}

// Returns the number of blocks.
int64_t checked_blocks(int rows, int columns) {
    const bool is_right = rows > 0 && columns > 0 && rows <= TILE_SIDE_LIMIT && columns <= TILE_SIDE_LIMIT;
    if (!is_right || int64_t(rows) * columns > TILE_SIZE_LIMIT / BANDS) throw std::invalid_argument("number of blocks");
    return int64_t(rows) * columns;
}

PyObject* decode_residual_stream(PyObject* arguments) {
    PyObject *model_, *words_, *coefficients_;
    int rows, columns, step;
    parse(arguments, "OOiiiO", &model_, &words_, &rows, &columns, &step, &coefficients_);
    const auto model = from_capsule<ResidualModel>(model_, RESIDUAL);
    const int64_t blocks = checked_blocks(rows, columns);
    const Array<const uint32_t> words(words_, "words");
    const Array<int32_t> coefficients(coefficients_, "coefficients", COLOUR_AXES * BANDS * blocks);
    Damage damage;
    int last_group = 0;
    {
        const Unlocked unlocked;
        damage = decode_residual(*model, words.data(), size_t(words.size()), rows, columns, step, coefficients.data(),
                                 &last_group);
    }
    return checked(Py_BuildValue("ii", int(damage), last_group));
}

PyObject* encode_residual_stream(PyObject* arguments) {
    PyObject *model_, *target_, *lambdas_, *last_groups_;
    int rows, columns;
    parse(arguments, "OOOOii", &model_, &target_, &lambdas_, &last_groups_, &rows, &columns);
    const auto model = from_capsule<ResidualModel>(model_, RESIDUAL);
    const int64_t blocks = checked_blocks(rows, columns);
    const Array<const double> target(target_, "target", COLOUR_AXES * BANDS * blocks);
    const Array<const float> lambdas(lambdas_, "lambdas", blocks);
    const Array<const int32_t> last_groups(last_groups_, "last_groups", COLOUR_AXES * blocks);
    std::string stream;
    {
        const Unlocked unlocked;
        stream = encode_residual(*model, target.data(), lambdas.data(), last_groups.data(), rows, columns);
    }
    return checked(PyBytes_FromStringAndSize(stream.data(), Py_ssize_t(stream.size())));
}

PyObject* choose_last_groups_of_blocks(PyObject* arguments) {
    PyObject *target_, *lambdas_, *bits_, *last_groups_;
    float block_bits;
    parse(arguments, "OOOfO", &target_, &lambdas_, &bits_, &block_bits, &last_groups_);
    const Array<const float> lambdas(lambdas_, "lambdas"), bits(bits_, "bits");
    const Array<const double> target(target_, "target", COLOUR_AXES * BANDS * lambdas.size());
    const Array<int32_t> last_groups(last_groups_, "last_groups", COLOUR_AXES * lambdas.size());
    if (bits.size() < 1 || bits.size() > INT32_MAX) throw std::invalid_argument("bits");
    {
        const Unlocked unlocked;
        choose_last_groups(target.data(), lambdas.data(), lambdas.size(), bits.data(), int(bits.size()), block_bits,
                           last_groups.data());
    }
    Py_RETURN_NONE;
}

PyObject* planes_to_pixels(PyObject* arguments) {
    PyObject *planes_, *pixels_;
    int height, width;
    float shift, scale;
    parse(arguments, "OiiffO", &planes_, &height, &width, &shift, &scale, &pixels_);
    if (height < 1 || width < 1 || height > TILE_SIDE_LIMIT || width > TILE_SIDE_LIMIT) {
        throw std::invalid_argument("size of the planes");
    }
    const Image<uint8_t> pixels(pixels_, "pixels");
    const Array<const float> planes(planes_, "planes", 3 * int64_t(height) * width);
    if (pixels.rows() > height || pixels.columns() > width || pixels.channels() != 3) {
        throw std::invalid_argument("pixels larger than the planes");
    }
    {
        const Unlocked unlocked;
        for (int row = 0; row < pixels.rows(); ++row) {
            const float* rows[3];
            for (int n = 0; n < 3; ++n) rows[n] = planes.data() + (int64_t(n) * height + row) * width;
            kernels().planes_to_pixels(rows, pixels.columns(), shift, scale, pixels.data() + row * pixels.stride());
        }
    }
    Py_RETURN_NONE;
}

PyObject* inverse_dct_of_blocks(PyObject* arguments) {
    PyObject *coefficients_, *residual_;
    int rows, columns;
    parse(arguments, "OiiO", &coefficients_, &rows, &columns, &residual_);
    const int64_t size = COLOUR_AXES * BANDS * checked_blocks(rows, columns);
    const Array<const int32_t> coefficients(coefficients_, "coefficients", size);
    const Array<int16_t> residual(residual_, "residual", size);
    {
        const Unlocked unlocked;
        inverse_dct(coefficients.data(), rows, columns, residual.data());
    }
    Py_RETURN_NONE;
}

PyObject* add_residual_to_pixels(PyObject* arguments) {
    PyObject *pixels_, *residual_;
    parse(arguments, "OO", &pixels_, &residual_);
    const Image<uint8_t> pixels(pixels_, "pixels");
    const Image<const int16_t> residual(residual_, "residual");
    const bool is_right = pixels.rows() == residual.rows() && pixels.columns() == residual.columns() &&
                          residual.channels() == 3 && pixels.channels() >= 3;
    if (!is_right) throw std::invalid_argument("pixels and a residual of different sizes");
    {
        const Unlocked unlocked;
        add_residual(pixels.data(), pixels.stride(), pixels.channels(), residual.data(), residual.stride(),
                     pixels.rows(), pixels.columns());
    }
    Py_RETURN_NONE;
}

PyObject* instruction_sets(PyObject*) {
    PyObject* names = checked(PyList_New(0));
    for (const Kernels* set : available_kernels()) {
        PyObject* name = PyUnicode_FromString(set->name);
        const bool failed = !name || PyList_Append(names, name);
        Py_XDECREF(name);
        if (failed) {
            Py_DECREF(names);
            throw PythonError();
        }
    }
    return names;
}

PyObject* instruction_set(PyObject*) { return checked(PyUnicode_FromString(kernels().name)); }

PyObject* use_instruction_set(PyObject* arguments) {
    const char* name;
    parse(arguments, "s", &name);
    if (!use_kernels(name)) throw std::invalid_argument(std::string("this processor has no instruction set ") + name);
    Py_RETURN_NONE;
}

PyObject* interface(PyObject*) { return checked(PyLong_FromLong(INTERFACE)); }

PyMethodDef METHODS[] = {
    {"interface", guarded<interface>, METH_VARARGS, nullptr},
    {"make_tables", guarded<make_tables>, METH_VARARGS, nullptr},
    {"make_network_prior", guarded<network_prior>, METH_VARARGS, nullptr},
    {"make_adaptive_prior", guarded<adaptive_prior>, METH_VARARGS, nullptr},
    {"make_residual_model", guarded<make_residual_model>, METH_VARARGS, nullptr},
    {"decode_stream", guarded<decode>, METH_VARARGS, nullptr},
    {"encode_stream", guarded<encode>, METH_VARARGS, nullptr},
    {"quantize", guarded<quantize_latents>, METH_VARARGS, nullptr},
    {"rate_and_distortion", guarded<costs_of_symbols>, METH_VARARGS, nullptr},
    {"fit_adaptive", guarded<fit_adaptive_prior>, METH_VARARGS, nullptr},
    {"decode_residual", guarded<decode_residual_stream>, METH_VARARGS, nullptr},
    {"encode_residual", guarded<encode_residual_stream>, METH_VARARGS, nullptr},
    {"choose_last_groups", guarded<choose_last_groups_of_blocks>, METH_VARARGS, nullptr},
    {"planes_to_pixels", guarded<planes_to_pixels>, METH_VARARGS, nullptr},
    {"inverse_dct", guarded<inverse_dct_of_blocks>, METH_VARARGS, nullptr},
    {"add_residual", guarded<add_residual_to_pixels>, METH_VARARGS, nullptr},
    {"instruction_sets", guarded<instruction_sets>, METH_VARARGS, nullptr},
    {"instruction_set", guarded<instruction_set>, METH_VARARGS, nullptr},
    {"use_instruction_set", guarded<use_instruction_set>, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef_Slot SLOTS[] = {{0, nullptr}};

PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_core", "The entropy stage of sdtrt.", 0, METHODS, SLOTS, nullptr, nullptr, nullptr};

}  // namespace

}  // namespace sdtrt

PyMODINIT_FUNC PyInit__core() { return PyModuleDef_Init(&sdtrt::MODULE); }
