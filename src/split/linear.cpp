// A linear map that libtorch differentiates, with matrix products of a caller's own: y = x Wᵀ + b, and in the backward pass
// dx = dy W, dW = dyᵀ x, db = Σ dy. Without such a product factors are rounded to bf16, and libtorch multiplies them.

#include <cstdint>
#include <exception>
#include <optional>
#include <string>

#include <torch/csrc/autograd/custom_function.h>
#include <ATen/Functions.h>

namespace {

using at::Tensor;

// As in linear.rs, which says what the fields mean.
struct Operand {
    const float *values;
    int64_t stride;
    bool along;
};

struct Product {
    int parts;
    Operand a, b;
    int64_t rows, columns, length;
    float *out;
    bool add;
};

using Multiply = void (*)(const Product *product);

struct Factor {
    Tensor values;  // a matrix
    bool along;     // whether its rows are summed along, or its columns
    int64_t rows() const { return values.size(along ? 0 : 1); }
    int64_t length() const { return values.size(along ? 1 : 0); }
};

Tensor rounded(const Tensor &t) { return t.to(at::kBFloat16).to(t.scalar_type()); }

Tensor product(Multiply multiply, int parts, const Factor &a, const Factor &b, const Tensor &bias = {}) {
    if (multiply == nullptr) {
        const Tensor left = rounded(a.along ? a.values : a.values.t());
        const Tensor right = rounded(b.along ? b.values.t() : b.values);
        return bias.defined() ? at::addmm(bias, left, right) : at::mm(left, right);
    }
    const Tensor left = a.values.contiguous(), right = b.values.contiguous();
    Tensor out = at::empty({a.rows(), b.rows()}, left.options());
    if (bias.defined()) out.copy_(bias.expand_as(out));
    if (a.length() == 0 && !bias.defined()) out.zero_();
    const Product asked{parts,
                        {left.const_data_ptr<float>(), left.size(1), a.along},
                        {right.const_data_ptr<float>(), right.size(1), b.along},
                        a.rows(),
                        b.rows(),
                        a.length(),
                        out.mutable_data_ptr<float>(),
                        bias.defined()};
    multiply(&asked);
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

// The map's output in *out, as libtorch's bindings own tensors. Returns what went wrong, or nothing; the text is this thread's,
// until the next call.
extern "C" const char *kernelview_split_linear(Tensor **out, const Tensor *x, const Tensor *weight, const Tensor *bias,
                                               int parts, Multiply multiply) {
    static thread_local std::string failure;
    try {
        *out = new Tensor(
            Linear::apply(*x, *weight, bias == nullptr ? std::nullopt : std::make_optional(*bias), static_cast<int64_t>(parts),
                          reinterpret_cast<int64_t>(multiply)));
        return nullptr;
    } catch (const std::exception &error) {
        failure = error.what();
        return failure.c_str();
    }
}
