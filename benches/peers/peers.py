"""One measurement of another program, in a process of its own: prints one line of JSON.

usage: peers.py PEER EXAMPLES TOKENS

PEER is one of
  vmap        torch.func: vmap(grad) in chunks of 4 examples, all rows in memory, then one matrix product
  vmap-sign   the same with signs of the rows
  pairs       the paper's scheme: a Jacobian per example, then for every pair one Jacobian-vector product
  pairs-sign  the paper's scheme for SignGD: for every pair the other Jacobian, and the inner product of the signs
  tangents    neural-tangents' empirical NTK of a relu perceptron of width 1024 (EXAMPLES inputs of 64 numbers)

Times of the two schemes by pairs are for a few examples: `per_example` and `per_pair` are what they cost.
"""

import json
import resource
import sys
import time
from collections.abc import Callable


def seconds(run: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def vmap(examples: int, tokens: int, signs: bool) -> dict[str, float]:
    """Per-example gradients as the rows of an N x P matrix, and its Gram matrix."""
    import torch
    from torch.func import grad
    from torch.func import vmap as over

    import network

    p = network.parameters()
    ids = network.prompts(examples, tokens)
    gradients = over(grad(network.output), in_dims=(None, 0))
    rows = torch.empty(examples, sum(v.numel() for v in p.values()))

    def gram() -> torch.Tensor:
        for start in range(0, examples, 4):
            part = gradients(p, ids[start : start + 4])
            torch.cat([g.reshape(g.shape[0], -1) for g in part.values()], 1, out=rows[start : start + 4])
        if signs:
            rows.sign_()
        return rows @ rows.T

    return {"seconds": seconds(gram)}


def pairs(examples: int, tokens: int, signs: bool) -> dict[str, float]:
    """The paper's scheme: the kernel's entries one by one."""
    import torch
    from torch.func import jacrev, jvp
    from torch.func import vmap as over

    import network

    p = network.parameters()
    ids = network.prompts(examples, tokens)

    def outputs(q: network.Parameters, i: int) -> torch.Tensor:
        return network.output(q, ids[i]).reshape(1, 1)

    def jacobian(i: int) -> network.Parameters:
        return jacrev(outputs)(p, i)

    def rows(g: torch.Tensor) -> torch.Tensor:
        return g.sign().flatten(2).to(torch.float64)

    def pair(i: int, directions: network.Parameters) -> torch.Tensor:
        if signs:
            # No directional derivative gives signs on both sides: the other Jacobian is computed for the pair, and the
            # inner product is one of signs in double precision.
            own = jacobian(i)
            return sum(torch.einsum("acp,bdp->acbd", rows(directions[k]), rows(own[k])) for k in own)
        slices = over(over(lambda direction: jvp(lambda q: outputs(q, i), (p,), (direction,))[1]))
        return slices(directions)

    per_example, per_pair = [], []
    for j in range(examples):
        start = time.perf_counter()
        directions = jacobian(j)
        per_example.append(time.perf_counter() - start)
        for i in range(examples):
            per_pair.append(seconds(lambda i=i, directions=directions: pair(i, directions)))
    return {
        "seconds": sum(per_example) + sum(per_pair),
        "per_example": min(per_example),
        "per_pair": sorted(per_pair)[len(per_pair) // 2],
    }


def tangents(examples: int) -> dict[str, float]:
    """neural-tangents on a perceptron, compiled before it is timed."""
    import jax
    import jax.numpy as jnp
    import neural_tangents as nt
    from neural_tangents import stax

    layers = [part for _ in range(3) for part in (stax.Dense(1024, 2**0.5), stax.Relu())]
    init, apply, _ = stax.serial(*layers, stax.Dense(1, 2**0.5))
    _, weights = init(jax.random.PRNGKey(1), (-1, 64))
    x = jax.random.normal(jax.random.PRNGKey(2), (examples, 64), dtype=jnp.float32)
    times = {}
    for name, implementation in (
        ("Jacobian contraction", nt.NtkImplementation.JACOBIAN_CONTRACTION),
        ("NTK-vector products", nt.NtkImplementation.NTK_VECTOR_PRODUCTS),
        ("structured derivatives", nt.NtkImplementation.STRUCTURED_DERIVATIVES),
    ):
        kernel = jax.jit(nt.empirical_ntk_fn(apply, vmap_axes=0, implementation=implementation))
        kernel(x, None, weights).block_until_ready()
        times[name] = min(seconds(lambda kernel=kernel: kernel(x, None, weights).block_until_ready()) for _ in range(5))
    return {"seconds": min(times.values()), **times}


def main() -> None:
    peer, examples, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if peer == "tangents":
        result = tangents(examples)
    else:
        kind = vmap if peer.startswith("vmap") else pairs
        result = kind(examples, tokens, peer.endswith("-sign"))
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main()
