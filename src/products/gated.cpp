// φ(gate) ∘ up, which libtorch differentiates, keeping both factors and nothing else: φ(gate) is computed again in the backward
// pass, which costs less than the memory that it would take until then.

#include <cstdint>

#include <torch/csrc/autograd/custom_function.h>
#include <ATen/Functions.h>

#include "own.h"

namespace {

using at::Tensor;

// As in gated.rs.
enum Phi : int64_t { SILU, GELU, GELU_TANH };

const char *approximation(int64_t phi) { return phi == GELU_TANH ? "tanh" : "none"; }

Tensor applied(int64_t phi, const Tensor &x) { return phi == SILU ? at::silu(x) : at::gelu(x, approximation(phi)); }

// φ'(x) times g.
Tensor derivative(int64_t phi, const Tensor &g, const Tensor &x) {
    return phi == SILU ? at::silu_backward(g, x) : at::gelu_backward(g, x, approximation(phi));
}

struct Gated : torch::autograd::Function<Gated> {
    static Tensor forward(torch::autograd::AutogradContext *context, const Tensor &gate, const Tensor &up, int64_t phi) {
        context->save_for_backward({gate, up});
        context->saved_data["phi"] = phi;
        return applied(phi, gate).mul_(up);
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                   torch::autograd::variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const int64_t phi = context->saved_data["phi"].toInt();
        const Tensor &g = gradients[0], &gate = saved[0], &up = saved[1];
        Tensor gate_gradient, up_gradient;
        if (context->needs_input_grad(0)) gate_gradient = derivative(phi, at::mul(g, up), gate);
        if (context->needs_input_grad(1)) up_gradient = applied(phi, gate).mul_(g);
        return {gate_gradient, up_gradient, Tensor()};
    }
};

}  // namespace

extern "C" const char *kernelview_gated(Tensor **out, const Tensor *gate, const Tensor *up, int64_t phi) {
    return hand_over(out, [&] { return Gated::apply(*gate, *up, phi); });
}
