// A linear map that libtorch differentiates, with matrix products of a caller's own: y = x Wᵀ + b, and in the backward pass
// dx = dy W, dW = dyᵀ x, db = Σ dy. Without such a product factors are rounded to bf16, and libtorch multiplies them.

#include <algorithm>
#include <cstdint>
#include <optional>

#include <torch/csrc/autograd/custom_function.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>

#include "own.h"

namespace {

using at::Tensor;

// As in product.rs, which says what the fields mean.
struct Operand {
    const void *values;
    int64_t stride;
    bool along;
};

struct Product {
    int parts;
    bool is_double;
    Operand a, b;
    int64_t rows, columns, length;
    void *out;
    int64_t out_stride;
    const void *bias;
    bool add;
};

using Multiply = void (*)(const Product *product);

struct Factor {
    Tensor values;  // a matrix
    bool along;     // whether its rows are summed along, or its columns
    int64_t rows() const { return values.size(along ? 0 : 1); }
    int64_t length() const { return values.size(along ? 1 : 0); }
};

// A product's rows of a, or of b, from `first` on, at most `count`.
Product share(const Product &whole, bool of_a, int64_t first, int64_t count) {
    Product part = whole;
    const int64_t bytes = whole.is_double ? sizeof(double) : sizeof(float);
    Operand &factor = of_a ? part.a : part.b;
    int64_t &lines = of_a ? part.rows : part.columns;
    lines = std::min(count, lines - first);
    factor.values = static_cast<const char *>(factor.values) + bytes * first * (factor.along ? factor.stride : 1);
    part.out = static_cast<char *>(part.out) + bytes * first * (of_a ? part.out_stride : 1);
    if (part.bias != nullptr && !of_a) part.bias = static_cast<const char *>(part.bias) + bytes * first;
    return part;
}

// Computes a product in libtorch's threads, which another pool's would compete with, and have to be woken for each product. What
// libtorch lets others run in its threads is a loop over the elements of a tensor: here the first lines of the shares. Each thread
// reads all of the smaller factor.
void multiply_in_threads(Multiply multiply, const Product &whole) {
    // Multiplications that are worth a thread; the side of a block of products of parts.
    constexpr int64_t WORTH = 1 << 20, STEP = 32;
    const bool of_a = whole.rows > whole.columns;
    const int64_t lines = of_a ? whole.rows : whole.columns;
    const int64_t work = whole.rows * whole.columns * whole.length;
    const int64_t threads = std::min<int64_t>({at::get_num_threads(), 1 + work / WORTH, 1 + lines / STEP});
    const int64_t size = ((lines + threads - 1) / threads + STEP - 1) / STEP * STEP;
    if (size >= lines) return multiply(&whole);
    Tensor starts = at::arange(0, lines, size, at::kLong);
    auto each = at::TensorIterator::nullary_op(starts);
    each.for_each(
        [&](char **data, const int64_t *strides, int64_t count) {
            for (int64_t i = 0; i < count; ++i) {
                const Product part = share(whole, of_a, *reinterpret_cast<int64_t *>(data[0] + i * strides[0]), size);
                multiply(&part);
            }
        },
        1);
}

Tensor rounded(const Tensor &t) { return t.to(at::kBFloat16).to(t.scalar_type()); }

Tensor product(Multiply multiply, int parts, const Factor &a, const Factor &b, const Tensor &bias = {}) {
    if (multiply == nullptr) {
        const Tensor left = rounded(a.along ? a.values : a.values.t());
        const Tensor right = rounded(b.along ? b.values.t() : b.values);
        return bias.defined() ? at::addmm(bias, left, right) : at::mm(left, right);
    }
    TORCH_CHECK(a.length() == b.length() && a.values.scalar_type() == b.values.scalar_type() && b.values.device().is_cpu() &&
                    (!bias.defined() || (bias.scalar_type() == a.values.scalar_type() && bias.device().is_cpu())),
                "factors of a product: ", a.values.sizes(), " of ", a.values.scalar_type(), " and ", b.values.sizes(), " of ",
                b.values.scalar_type());
    const Tensor left = a.values.contiguous(), right = b.values.contiguous();
    Tensor out = at::empty({a.rows(), b.rows()}, left.options());
    // Products of parts begin with the bias; whole factors' products are added to it.
    const bool begins = parts > 0 && a.length() > 0;
    const Tensor row = bias.defined() && begins ? bias.expand({b.rows()}).contiguous() : Tensor();
    if (bias.defined() && !begins) out.copy_(bias.expand_as(out));
    if (a.length() == 0 && !bias.defined()) out.zero_();
    const Product asked{parts,
                        left.scalar_type() == at::kDouble,
                        {left.const_data_ptr(), left.size(1), a.along},
                        {right.const_data_ptr(), right.size(1), b.along},
                        a.rows(),
                        b.rows(),
                        a.length(),
                        out.mutable_data_ptr(),
                        out.size(1),
                        row.defined() ? row.const_data_ptr() : nullptr,
                        bias.defined() && !begins};
    multiply_in_threads(multiply, asked);
    return out;
}

struct Linear : torch::autograd::Function<Linear> {
    static Tensor forward(torch::autograd::AutogradContext *context, const Tensor &x, const Tensor &weight,
                          const std::optional<Tensor> &bias, int64_t parts, int64_t multiply) {
        // An input is kept only where the weight's gradient needs it.
        context->save_for_backward({weight.requires_grad() ? x : Tensor(), weight});
        context->saved_data["parts"] = parts;
        context->saved_data["multiply"] = multiply;
        context->saved_data["bias"] = bias.has_value();
        const Tensor rows = x.reshape({-1, x.size(-1)});
        const Tensor out = product(reinterpret_cast<Multiply>(multiply), static_cast<int>(parts), {rows, true}, {weight, true},
                                   bias.value_or(Tensor()));
        std::vector<int64_t> size = x.sizes().vec();
        size.back() = weight.size(0);
        // Not a view, which nobody could write to in place.
        return at::_unsafe_view(out, size);
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                   torch::autograd::variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const auto multiply = reinterpret_cast<Multiply>(context->saved_data["multiply"].toInt());
        const int parts = static_cast<int>(context->saved_data["parts"].toInt());
        const Tensor &whole = gradients[0], &weight = saved[1];
        const Tensor g = whole.reshape({-1, whole.size(-1)});
        Tensor x_gradient, weight_gradient, bias_gradient;
        if (context->needs_input_grad(0)) {
            std::vector<int64_t> size = whole.sizes().vec();
            size.back() = weight.size(1);
            x_gradient = product(multiply, parts, {g, true}, {weight, false}).view(size);
        }
        if (context->needs_input_grad(1)) {
            const Tensor x = saved[0].reshape({-1, weight.size(1)});
            weight_gradient = product(multiply, parts, {g, false}, {x, false});
        }
        if (context->saved_data["bias"].toBool() && context->needs_input_grad(2)) bias_gradient = g.sum(0);
        return {x_gradient, weight_gradient, bias_gradient, Tensor(), Tensor()};
    }
};

}  // namespace

extern "C" const char *kernelview_linear(Tensor **out, const Tensor *x, const Tensor *weight, const Tensor *bias,
                                         int parts, Multiply multiply) {
    return hand_over(out, [&] {
        return Linear::apply(*x, *weight, bias == nullptr ? std::nullopt : std::make_optional(*bias),
                             static_cast<int64_t>(parts), reinterpret_cast<int64_t>(multiply));
    });
}
