"""Whether lips and speech belong together: Wav2Lip's expert as a network to train (card s3d_nerf, section 2.9)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.pretrained.wav2lip_expert import AUDIO_TABLE, FACE_SIZE, FACE_TABLE, FRAMES, tower
from jaxtalk.ops.crops import lip_crops

EPSILON = 1e-8  # equation 6 has none, and a vector of zeros would give NaN (card, 5.10)
HALF_SIZE = (24, 48)
_LAST_HALVING = 9  # of the entries of FACE_TABLE
_HALF_TABLE = (*FACE_TABLE[:_LAST_HALVING], (512, 3, (1, 1), 1), *FACE_TABLE[_LAST_HALVING + 1 :])


class SyncNetwork(nnx.Module):
    """Unit vectors of lips and of speech, whose cosine says how well they belong together.

    Layers and paths of parameters are those of `Wav2LipExpert`, so that at divisor 1 and 5 frames its weights fit. What
    is left of longer windows behind the last layer is averaged.

    Args:
        lip_size: rows and columns of the crops: 48 x 96 as published, or 24 x 48, at which the last layer but two does
            not halve; for pictures of about 64 pixels, whose lips are no larger. A quarter of the work.
        divisor: divides all widths; 1 has 16.4 million parameters.
        frames: T, consecutive frames that a vector sees.
        final_relu: vectors without negative parts, as the weights of Wav2Lip need them; cosines are then in [0, 1].
        least_width: no layer is narrower, whatever the divisor.
        motion_gain: other than 1, lips enter without their mean colour and as a cosine transform over time, of which
            all but the mean is multiplied by this. What changes within a window is a few percent of what differs
            between people; a first layer that sees it enlarged learns in a fraction of the steps. At gain 1 the network
            sees the pictures themselves.
        dropout: part of the values before each tower's last layer but one that is dropped in training.
    """

    def __init__(
        self,
        divisor: int = 1,
        frames: int = FRAMES,
        final_relu: bool = False,
        dropout: float = 0.0,
        lip_size: tuple[int, int] = FACE_SIZE,
        least_width: int = 1,
        motion_gain: float = 1.0,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        if lip_size not in (FACE_SIZE, HALF_SIZE):
            raise ValueError(f"lip_size must be {FACE_SIZE} or {HALF_SIZE}, not {lip_size}")
        table = FACE_TABLE if lip_size == FACE_SIZE else _HALF_TABLE
        norm = functools.partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5, rngs=rngs)
        build = functools.partial(tower, divisor=divisor, rngs=rngs, norm=norm, precision=None, least=least_width)
        self.face_layers = build(table, 3 * frames)
        self.audio_layers = build(AUDIO_TABLE, 1)
        self.dropout = nnx.Dropout(dropout)
        self.motion_gain = motion_gain
        self.final_relu, self.frames, self.lip_size = final_relu, frames, lip_size

    def faces(
        self, crops: Float[Array, "batch frames rows columns 3"], train: bool = False, key: jax.Array | None = None
    ) -> Float[Array, "batch embedding"]:
        """Lips of consecutive frames, BGR in [0, 1] (`ops.crops.lip_crops`).

        `train`: normalise by the batch and remember its statistics, and drop values by `key`; otherwise by what is
        remembered, and nothing changes.
        """
        if crops.shape[1:4] != (self.frames, *self.lip_size):
            raise ValueError(f"{self.frames} crops of {self.lip_size} are judged, not {crops.shape[1:4]}")
        if self.motion_gain != 1:
            crops = enlarge_motion(crops, self.motion_gain)
        batch, frames, height, width, channels = crops.shape
        stacked = jnp.moveaxis(crops, 1, 3).reshape(batch, height, width, frames * channels)
        return self._embed(self.face_layers, stacked, train, key)

    def audio(
        self, mel: Float[Array, "batch 80 columns"], train: bool = False, key: jax.Array | None = None
    ) -> Float[Array, "batch embedding"]:
        """Mel of the frames' time (`audio.wav2lip_mel.mel_windows`), in [-4, 4]."""
        return self._embed(self.audio_layers, mel[..., None], train, key)

    def _embed(self, layers: nnx.List, x: jax.Array, train: bool, key: jax.Array | None) -> jax.Array:
        last = len(layers) - 1
        for index, layer in enumerate(layers):
            if index == last - 1:
                x = self.dropout(x, deterministic=not train, rngs=key)
            x = layer(x, relu=index < last or self.final_relu, use_running_average=not train)
        return unit(x.mean((1, 2)))


def unit(x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
    """Vectors of length one; zero stays zero, with a gradient of zero."""
    square = jnp.square(x).sum(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, EPSILON**2))


def enlarge_motion(
    crops: Float[Array, "batch frames rows columns 3"], gain: float
) -> Float[Array, "batch frames rows columns 3"]:
    """The orthonormal cosine transform over frames of crops less their mean colour; all but its first times `gain`."""
    count = crops.shape[1]
    transform = scipy.fft.dct(np.eye(count), axis=0, norm="ortho")  # [frequency, frame]
    transform[1:] *= gain
    centred = crops - crops.mean((1, 2, 3), keepdims=True)
    return jnp.einsum("kt,btrwc->bkrwc", jnp.asarray(transform, crops.dtype), centred, precision="highest")


def similarity(
    network: SyncNetwork, crops: Float[Array, "batch frames rows columns 3"], mel: Float[Array, "batch 80 columns"]
) -> Float[Array, " batch"]:
    """Cosine of lips and speech (equation 6) by a network that is left as it is.

    The gradient flows to `crops` alone: not to the network's parameters, nor to `mel`.
    """
    graph, state = nnx.split(network)
    frozen = nnx.merge(graph, jax.lax.stop_gradient(state))
    return (frozen.faces(crops) * jax.lax.stop_gradient(frozen.audio(mel))).sum(-1)


def judge(
    network: SyncNetwork,
    frames: Float[Array, "batch frames height width 3"],
    boxes: Float[Array, "batch frames 4"],
    mel: Float[Array, "batch 80 columns"],
) -> Float[Array, " batch"]:
    """`similarity` of the lips of RGB frames in [0, 1], cut by the face boxes of the ground truth, pixels."""
    return similarity(network, lip_crops(frames, boxes, network.lip_size), mel)
