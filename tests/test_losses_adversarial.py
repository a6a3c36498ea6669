"""The terms of a GAN against numbers by hand, the penalty against finite differences, and a small GAN that learns."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxtalk.losses.adversarial import discriminator_loss, generator_loss, r1_penalty
from jaxtalk.nn.stylegan_discriminator import StyleGanDiscriminator
from tests.filled_module import filled


def _discriminator(base: int = 32, limit: int = 8, seed: int = 0) -> StyleGanDiscriminator:
    return filled(
        lambda: StyleGanDiscriminator(8, base=base, limit=limit, rngs=nnx.Rngs(0)),
        equalised=True,
        plain=True,
        seed=seed,
    )


def test_terms_by_hand() -> None:
    logits = jnp.array([-2.0, 0.0, 3.0])
    soft = [0.126928, 0.693147, 3.048587]  # log(1 + exp(logit))
    np.testing.assert_allclose(generator_loss(-logits), soft, rtol=1e-5)
    np.testing.assert_allclose(
        discriminator_loss(-logits, logits[::-1]), np.asarray(soft) + np.asarray(soft[::-1]), rtol=1e-5
    )
    np.testing.assert_allclose(discriminator_loss(jnp.zeros(1), jnp.zeros(1)), np.log(4), rtol=1e-6)


def test_terms_pull_the_right_way_and_do_not_saturate() -> None:
    fooled = jax.grad(lambda x: generator_loss(x).sum())(jnp.array([-50.0, 0.0, 50.0]))
    np.testing.assert_allclose(fooled, [-1, -0.5, 0], atol=1e-6)
    to_real, to_fake = jax.grad(lambda a, b: discriminator_loss(a, b).sum(), argnums=(0, 1))(jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_allclose(to_real, -0.5)
    np.testing.assert_allclose(to_fake, 0.5)
    assert np.isfinite(discriminator_loss(jnp.array([-1e4]), jnp.array([1e4]))).all()


def test_penalty_of_a_linear_and_of_a_quadratic_discriminator() -> None:
    weights = jax.random.normal(jax.random.key(0), (4, 4, 3))
    images = jax.random.normal(jax.random.key(1), (5, 4, 4, 3))

    def linear(x: jax.Array) -> jax.Array:
        return (x * weights).sum((1, 2, 3)) + 7

    np.testing.assert_allclose(r1_penalty(linear, images), [float((weights**2).sum())] * 5, rtol=1e-5)

    def quadratic(x: jax.Array) -> jax.Array:
        return 0.5 * (weights * x**2).sum((1, 2, 3))

    np.testing.assert_allclose(r1_penalty(quadratic, images), ((weights * images) ** 2).sum((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(r1_penalty(lambda x: 0 * linear(x), images), 0)


def test_penalty_of_the_discriminator_against_finite_differences() -> None:
    network = _discriminator()
    images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 3), minval=-1)
    sums = jax.jit(lambda x: network(x).sum())
    penalty = jax.jit(lambda x: r1_penalty(network, x))(images)
    assert penalty.shape == (4,)
    step, slope = 1e-2, np.zeros((4, 192))
    for place in range(0, 192, 16):
        for picture in range(4):
            shift = jnp.zeros((4, 192)).at[picture, place].set(step).reshape(images.shape)
            slope[picture, place] = (sums(images + shift) - sums(images - shift)) / (2 * step)
    exact = jax.grad(sums)(images).reshape(4, -1)
    np.testing.assert_allclose(slope[:, ::16], exact[:, ::16], atol=2e-3)
    np.testing.assert_allclose(penalty, (exact**2).sum(1), rtol=1e-4)


def test_penalty_trains_the_network_and_not_the_pictures() -> None:
    graph, state = nnx.split(_discriminator())
    images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 3), minval=-1)

    @jax.jit
    def loss(state: nnx.State, images: jax.Array) -> jax.Array:
        return r1_penalty(nnx.merge(graph, state), images).mean()

    to_state, to_images = jax.grad(loss, argnums=(0, 1))(state, images)
    np.testing.assert_array_equal(to_images, 0)
    step = 0.3 * loss(state, images) / sum(float(jnp.square(leaf).sum()) for leaf in jax.tree.leaves(to_state))
    moved = jax.tree.map(lambda value, slope: value - step * slope, state, to_state)
    assert float(loss(moved, images)) < 0.9 * float(loss(state, images))


def _train(steps: int, gamma: float, seed: int = 0) -> Callable[[jax.Array], jax.Array]:
    """A generator of 8 x 8 pictures from noise, to imitate pictures of one colour, 0.5 +- 0.1, red only."""
    real_mean = jnp.array([0.5, -0.2, -0.2])
    discriminator = _discriminator(64, 16, seed)
    generator = nnx.Linear(4, 192, rngs=nnx.Rngs(1))
    (dgraph, dstate), (ggraph, gstate) = nnx.split(discriminator), nnx.split(generator)
    optimiser = optax.adam(3e-3, b1=0.0, b2=0.99)

    def made(state: nnx.State, key: jax.Array) -> jax.Array:
        return nnx.merge(ggraph, state)(jax.random.normal(key, (16, 4))).reshape(16, 8, 8, 3)

    def real(key: jax.Array) -> jax.Array:
        shade = 0.1 * jax.random.normal(key, (16, 1, 1, 1))
        return jnp.broadcast_to(real_mean + shade, (16, 8, 8, 3))

    @jax.jit
    def step(dstate, gstate, dmoments, gmoments, key):
        first, second, third = jax.random.split(key, 3)
        images, fakes = real(first), jax.lax.stop_gradient(made(gstate, second))

        def critic(state: nnx.State) -> jax.Array:
            network = nnx.merge(dgraph, state)
            terms = discriminator_loss(network(images), network(fakes)) + gamma / 2 * r1_penalty(network, images)
            return terms.mean()

        updates, dmoments = optimiser.update(jax.grad(critic)(dstate), dmoments)
        dstate = optax.apply_updates(dstate, updates)

        def fool(state: nnx.State) -> jax.Array:
            return generator_loss(nnx.merge(dgraph, dstate)(made(state, third))).mean()

        updates, gmoments = optimiser.update(jax.grad(fool)(gstate), gmoments)
        return dstate, optax.apply_updates(gstate, updates), dmoments, gmoments

    dmoments, gmoments = optimiser.init(dstate), optimiser.init(gstate)
    for key in jax.random.split(jax.random.key(0), steps):
        dstate, gstate, dmoments, gmoments = step(dstate, gstate, dmoments, gmoments, key)
    return lambda key: made(gstate, key)


def test_a_small_gan_learns_colour_and_spread() -> None:
    sample = _train(1000, 0.5)
    pictures = np.asarray(jnp.concatenate([sample(key) for key in jax.random.split(jax.random.key(5), 16)]))
    np.testing.assert_allclose(pictures.mean((0, 1, 2)), [0.5, -0.2, -0.2], atol=0.06)
    assert 0.06 < pictures.mean((1, 2, 3)).std() < 0.14  # shades differ as the real ones do: no collapse
    assert pictures.std((1, 2)).mean() < 0.1  # and each picture is of one colour; it began as noise
