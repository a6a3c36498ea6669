"""ResNet-34 with torchvision's structure, and its ImageNet weights where the user has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

from jaxtalk.errors import JaxtalkError

DEPTHS = (3, 4, 6, 3)  # blocks per layer
WIDTHS = (64, 128, 256, 512)
GROUPS = 32
EPSILON = 1e-5


class FrozenBatchNorm(nnx.Module):
    """Batch normalisation by stored statistics, which are never updated; scale and bias are trained.

    The statistics start at mean 0 and variance 1, which normalises nothing: load weights that bring their own.
    """

    def __init__(self, channels: int) -> None:
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))

    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        scale = self.scale[...] * jax.lax.rsqrt(self.var[...] + EPSILON)
        return x * scale.astype(x.dtype) + (self.bias[...] - self.mean[...] * scale).astype(x.dtype)


class ResNet34(nnx.Module):
    """The outputs of conv1 (after its norm and ReLU) and of each layer: 1/2, 1/4, 1/8, ... of the pictures' sides.

    Args:
        norm: "group" (32 groups; needs no statistics) or "frozen_batch" (see `FrozenBatchNorm`).
        layers: how many of the four are built. All four have torchvision's 21,284,672 parameters (without fc).

    Pictures [*batch, H, W, 3] in [0, 1] are first shifted and scaled by ImageNet's mean and deviation.
    """

    def __init__(self, norm: str = "group", layers: int = 4, *, rngs: nnx.Rngs, dtype: Dtype | None = None) -> None:
        if norm not in ("group", "frozen_batch"):
            raise ValueError(f"norm must be 'group' or 'frozen_batch', not {norm!r}")
        self.norm = norm

        def make_norm(channels: int) -> nnx.Module:
            if norm == "frozen_batch":
                return FrozenBatchNorm(channels)
            return nnx.GroupNorm(channels, num_groups=GROUPS, epsilon=EPSILON, dtype=dtype, rngs=rngs)

        self.conv1 = _convolution(3, 64, 7, 2, rngs, dtype)
        self.bn1 = make_norm(64)
        width = 64
        for index in range(layers):
            blocks = []
            for block in range(DEPTHS[index]):
                stride = 2 if index and not block else 1
                blocks.append(_Block(width, WIDTHS[index], stride, make_norm, rngs, dtype))
                width = WIDTHS[index]
            setattr(self, f"layer{index + 1}", nnx.List(blocks))
        self.layers = layers

    def __call__(self, images: Float[Array, "*batch height width 3"]) -> list[jax.Array]:
        mean, deviation = jnp.array([0.485, 0.456, 0.406]), jnp.array([0.229, 0.224, 0.225])
        x = ((images - mean) / deviation).astype(images.dtype)
        x = x.reshape(-1, *images.shape[-3:])  # norms and pooling know one batch axis
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        outputs = [x]
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for index in range(self.layers):
            for block in getattr(self, f"layer{index + 1}"):
                x = block(x)
            outputs.append(x)
        return [x.reshape(*images.shape[:-3], *x.shape[1:]) for x in outputs]


class _Block(nnx.Module):
    """Two 3 x 3 convolutions and a shortcut, which is a 1 x 1 convolution where sizes change."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        make_norm: Callable[[int], nnx.Module],
        rngs: nnx.Rngs,
        dtype: Dtype | None,
    ) -> None:
        self.conv1 = _convolution(inputs, outputs, 3, stride, rngs, dtype)
        self.bn1 = make_norm(outputs)
        self.conv2 = _convolution(outputs, outputs, 3, 1, rngs, dtype)
        self.bn2 = make_norm(outputs)
        shortcut = []
        if stride > 1 or inputs != outputs:
            shortcut = [_convolution(inputs, outputs, 1, stride, rngs, dtype), make_norm(outputs)]
        self.downsample = nnx.List(shortcut)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        for layer in self.downsample:
            x = layer(x)
        return jax.nn.relu(x + y)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, rngs: nnx.Rngs, dtype: Dtype | None) -> nnx.Conv:
    pad = ((kernel - 1) // 2,) * 2
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        padding=(pad, pad),
        use_bias=False,
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        rngs=rngs,
    )


def load_imagenet(network: ResNet34, path: str | Path) -> None:
    """Writes the arrays of an .npz, named and laid out as torchvision's state dict of resnet34, into `network`.

    Layers that the network was built without, fc and counters may be in the file. Raises `JaxtalkError` for a network
    without stored statistics, for a file that cannot be read, and for a key that is missing, unknown or misshapen.
    """
    if network.norm != "frozen_batch":
        raise JaxtalkError(f"{path}: ImageNet weights need norm='frozen_batch', not {network.norm!r}")
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise JaxtalkError(f"{path}: no .npz file that numpy can read ({error})") from error
    names = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    loaded = []
    for place, variable in nnx.to_flat_state(nnx.state(network)):
        *parents, last = (str(part) for part in place)
        name = ".".join([*parents, names.get(last, last)])
        if name not in arrays:
            raise JaxtalkError(f"{path}: {name} is missing; save the whole state dict of torchvision's resnet34")
        value = arrays.pop(name)
        order = (2, 3, 1, 0) if value.ndim == 4 else range(value.ndim)  # torch's kernels begin with the outputs
        if value.transpose(order).shape != variable.shape:
            raise JaxtalkError(
                f"{path}: {name} has shape {value.shape}, which is not resnet34's; save its state dict unchanged"
            )
        loaded.append((place, variable.replace(jnp.asarray(value.transpose(order), jnp.float32))))
    spare = ("fc.", *(f"layer{index}." for index in range(network.layers + 1, 5)))
    for name in arrays:
        if not name.startswith(spare) and not name.endswith("num_batches_tracked"):
            raise JaxtalkError(f"{path}: {name} is no array of torchvision's resnet34; save its state dict unchanged")
    nnx.update(network, nnx.from_flat_state(loaded))
