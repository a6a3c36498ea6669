"""The perceptual term with a network: loaded while a step is traced, kept, and deaf to its own parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.methods.s3d_nerf import perceptual
from jaxtalk.methods.s3d_nerf.config import FieldStageConfig
from jaxtalk.methods.s3d_nerf.picture import Picture
from jaxtalk.methods.s3d_nerf.truth import Truth
from jaxtalk.nn.pretrained.vgg import Vgg


def test_the_network_outlives_the_trace_that_loaded_it(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, state = nnx.split(Vgg(19, ("relu1_1",), rngs=nnx.Rngs(0)))
    arrays = jax.tree.map(np.asarray, nnx.to_pure_dict(state))

    def load() -> Vgg:
        return nnx.merge(graph, jax.tree.map(jnp.asarray, arrays))

    monkeypatch.setattr(perceptual, "load_vgg19", load)
    perceptual._vgg19.cache_clear()
    wanted = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 2, 16, 16, 3)), jnp.float32)
    truth = Truth(wanted, wanted, jnp.zeros((1, 2, 4)))
    settings = FieldStageConfig(w_per=0.25, per_start=3)

    def total(image: jax.Array, step: jax.Array) -> jax.Array:
        made = Picture(image, image, image[..., 0], image[..., 0], None, None)
        terms = perceptual.perceptual_terms(made, truth, settings, step)
        assert set(terms) == {"per_coarse", "per_fine"} and terms["per_fine"].weight == 0.25
        return sum((term.values.mean() for term in terms.values()), jnp.float32(0))

    try:
        for _ in range(2):  # a new function: traced again, with the network of the first time
            value = jax.jit(lambda image, step: jax.value_and_grad(total)(image, step))
            assert float(value(wanted, jnp.int32(3))[0]) < 1e-6  # equal pictures
            loss, slope = value(wanted + 0.1, jnp.int32(3))
            assert float(loss) > 0 and float(jnp.abs(slope).max()) > 0
            assert float(value(wanted + 0.1, jnp.int32(2))[0]) == 0  # before its start
    finally:
        perceptual._vgg19.cache_clear()
