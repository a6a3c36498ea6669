"""A radiance field under a condition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.mlp import RadianceMLP
from jaxtalk.ops.encodings import encoding_size, positional_encoding
from jaxtalk.rays.settings import FieldConfig


class Field(nnx.Module):
    """(position, direction, condition, features of the point) -> (density, colour).

    The condition is a ray's or a picture's; features, of `feature_size` numbers, are the point's own (card gdrf 2.8:
    what the references show there) and stand before the encoded position.
    """

    def __init__(self, config: FieldConfig, condition_size: int, *, feature_size: int = 0, rngs: nnx.Rngs) -> None:
        self.config = config
        views = encoding_size(3, config.view_frequencies) if config.view_dependent else 0
        self.mlp = RadianceMLP(
            feature_size + encoding_size(3, config.position_frequencies) + condition_size,
            views,
            width=config.width,
            depth=config.depth,
            skips=config.skips,
            branch_width=config.branch_width,
            branch_depth=config.branch_depth,
            init=config.init,
            dtype=jnp.dtype(config.dtype),
            rngs=rngs,
        )

    def __call__(
        self,
        points: Float[Array, "*batch rays samples 3"],
        directions: Float[Array, "*batch rays 3"],
        condition: Float[Array, "*batch condition"],
        features: Float[Array, "*batch rays samples features"] | None = None,
    ) -> tuple[Float[Array, "*batch rays samples"], Float[Array, "*batch rays samples 3"]]:
        """Density per metre, before the ReLU of compositing, and colour in [0, 1]."""
        config = self.config
        own = self.encode(points)
        if features is not None:
            own = jnp.concatenate([features, own], -1)
        view = None
        if config.view_dependent:
            unit = directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)
            view = positional_encoding(unit, config.view_frequencies)[..., None, :]
        density, color = self.mlp(own, condition[..., None, None, :], view)
        if config.density == "softplus":
            density = jax.nn.softplus(density - 2.0)  # starts thin, also where the interval is wide
        return config.density_scale * density, jax.nn.sigmoid(color)

    def encode(self, points: Float[Array, "*batch 3"]) -> Float[Array, "*batch encoded"]:
        """The positional encoding of points in head space, metres."""
        config = self.config
        return positional_encoding(points * config.position_scale, config.position_frequencies, config.double_angle)
