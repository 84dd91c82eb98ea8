// How this program's functions of tensors hand over what they make (own.rs).

#pragma once

#include <exception>
#include <string>

#include <ATen/core/Tensor.h>

// Writes what `make` returns to *out, as libtorch's bindings own tensors. Returns what went wrong, or nothing; the text is this
// thread's, until the next call.
template <typename Make>
const char *hand_over(at::Tensor **out, Make make) {
    static thread_local std::string failure;
    try {
        *out = new at::Tensor(make());
        return nullptr;
    } catch (const std::exception &error) {
        failure = error.what();
        return failure.c_str();
    }
}
