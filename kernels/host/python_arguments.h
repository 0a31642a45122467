// Arguments and errors of the Python module: only functions of the stable ABI of Python 3.11 are used.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace sdtrt {

// A Python exception is set.
struct PythonError {};

// A buffer of numbers of type `T`, which is const if the buffer is only read. It lives while Python's lock is held, or
// while a call waits for work that does not hold it.
template <class T>
class NumberBuffer {
public:
    using Number = std::remove_const_t<T>;

    ~NumberBuffer() { PyBuffer_Release(&view_); }
    NumberBuffer(const NumberBuffer&) = delete;
    NumberBuffer& operator=(const NumberBuffer&) = delete;

    T* data() const { return static_cast<T*>(view_.buf); }

protected:
    NumberBuffer(PyObject* object, const char* name, int layout) {
        if (PyObject_GetBuffer(object, &view_, layout | PyBUF_FORMAT | (std::is_const_v<T> ? 0 : PyBUF_WRITABLE))) {
            throw PythonError();
        }
        if (!has_type()) {
            PyBuffer_Release(&view_);
            refuse(name);
        }
    }

    [[noreturn]] static void refuse(const char* name) {
        throw std::invalid_argument(std::string("an array of the wrong type, size or layout: ") + name);
    }

    Py_buffer view_;

private:
    // Returns whether the numbers are of the right kind, in the order of bytes of this machine, and aligned.
    bool has_type() const {
        const std::string format = view_.format && *view_.format ? view_.format : "B";
        const char kind = format.back();
        const bool is_floating = kind == 'e' || kind == 'f' || kind == 'd';
        const bool is_unsigned = !is_floating && kind >= 'A' && kind <= 'Z';
        return view_.itemsize == Py_ssize_t(sizeof(Number)) && is_floating == std::is_floating_point_v<Number> &&
               is_unsigned == std::is_unsigned_v<Number> && format[0] != '>' && format[0] != '!' &&
               reinterpret_cast<uintptr_t>(view_.buf) % alignof(Number) == 0;
    }
};

// A C-contiguous array.
template <class T>
class Array : public NumberBuffer<T> {
public:
    static constexpr int64_t ANY_COUNT = -1;

    // `count`: number of values that the array must have.
    Array(PyObject* object, const char* name, int64_t count = ANY_COUNT)
        : NumberBuffer<T>(object, name, PyBUF_C_CONTIGUOUS) {
        if (count != ANY_COUNT && size() != count) this->refuse(name);
    }

    int64_t size() const { return this->view_.len / Py_ssize_t(sizeof(T)); }
    T& operator[](int64_t n) const { return this->data()[n]; }
    std::vector<typename NumberBuffer<T>::Number> to_vector() const { return {this->data(), this->data() + size()}; }
};

// An array of (rows, columns, channels) of which rows need not follow each other in memory.
template <class T>
class Image : public NumberBuffer<T> {
public:
    Image(PyObject* object, const char* name) : NumberBuffer<T>(object, name, PyBUF_STRIDES) {
        const Py_buffer& view = this->view_;
        const Py_ssize_t size = sizeof(T);
        const bool has_layout = view.ndim == 3 && view.strides[2] == size && view.strides[1] == size * view.shape[2] &&
                                view.strides[0] % size == 0 && view.shape[0] <= INT32_MAX &&
                                view.shape[1] <= INT32_MAX && view.shape[2] <= 4;
        if (!has_layout) this->refuse(name);
    }

    int rows() const { return int(this->view_.shape[0]); }
    int columns() const { return int(this->view_.shape[1]); }
    int channels() const { return int(this->view_.shape[2]); }
    int64_t stride() const { return this->view_.strides[0] / Py_ssize_t(sizeof(T)); }  // values from row to row
};

// An array, or None.
template <class T>
class OptionalArray {
public:
    OptionalArray(PyObject* object, const char* name, int64_t count) {
        if (object != Py_None) array_ = std::make_unique<Array<T>>(object, name, count);
    }
    T* data() const { return array_ ? array_->data() : nullptr; }

private:
    std::unique_ptr<Array<T>> array_;
};

// Releases Python's lock during its lifetime.
class Unlocked {
public:
    Unlocked() : state_(PyEval_SaveThread()) {}
    ~Unlocked() { PyEval_RestoreThread(state_); }
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;

private:
    PyThreadState* state_;
};

// Returns an object of C++ as a capsule that owns it. `NAME` tells its type.
template <class T>
PyObject* to_capsule(std::shared_ptr<T> object, const char* name) {
    auto owner = std::make_unique<std::shared_ptr<T>>(std::move(object));
    PyObject* capsule = PyCapsule_New(owner.get(), name, [](PyObject* self) {
        delete static_cast<std::shared_ptr<T>*>(PyCapsule_GetPointer(self, PyCapsule_GetName(self)));
    });
    if (!capsule) throw PythonError();
    owner.release();
    return capsule;
}

template <class T>
std::shared_ptr<T> from_capsule(PyObject* capsule, const char* name) {
    void* owner = PyCapsule_GetPointer(capsule, name);
    if (!owner) throw PythonError();
    return *static_cast<std::shared_ptr<T>*>(owner);
}

template <class... Targets>
void parse(PyObject* arguments, const char* format, Targets... targets) {
    if (!PyArg_ParseTuple(arguments, format, targets...)) throw PythonError();
}

inline PyObject* checked(PyObject* object) {
    if (!object) throw PythonError();
    return object;
}

// Calls a function, and turns its C++ exceptions into those of Python.
template <PyObject* (*FUNCTION)(PyObject*)>
PyObject* guarded(PyObject*, PyObject* arguments) {
    try {
        return FUNCTION(arguments);
    } catch (const PythonError&) {
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    }
    return nullptr;
}

}  // namespace sdtrt
