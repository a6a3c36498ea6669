"""From windows of speech to the code that conditions a field, as AD-NeRF and DFRF have it (card gdrf A.1)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.audio import FeatureSpec
from jaxtalk.nn.audio import WINDOW, AudioAttNet, AudioNet, neighbour_windows


@dataclasses.dataclass(frozen=True)
class AudioConfig:
    """From speech features to the code that conditions the fields."""

    channels: int = 29  # of the speech feature
    code_size: int = 64
    attention_windows: int = 8  # neighbours over which codes are smoothed; 0: no smoothing
    stride: int = 2  # feature rows from one neighbour to the next: 50 Hz at 25 fps

    @property
    def rows(self) -> int:
        """Feature rows one frame needs: its own window, or enough for all its neighbours'."""
        return WINDOW if not self.attention_windows else WINDOW + self.stride * self.attention_windows

    def feature(self, name: str) -> FeatureSpec:
        """Windows of the speech feature, long enough for the neighbours that the attention smooths over."""
        return FeatureSpec(name, num_channels=self.channels, window=self.rows)


def speech_networks(config: AudioConfig, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
    """`audio`, and with smoothing `attention`."""
    networks: dict[str, nnx.Module] = {"audio": AudioNet(config.channels, config.code_size, rngs=rngs)}
    if config.attention_windows:
        networks["attention"] = AudioAttNet(config.attention_windows, rngs=rngs)
    return networks


def speech_code(
    networks: dict[str, nnx.Module],
    config: AudioConfig,
    rows: Float[Array, "*batch rows channels"],
    smooth: bool | jax.Array,
) -> Float[Array, "*batch code"]:
    """The code of each frame's speech: of its own window, or the attention's mean over its neighbours' (`smooth`)."""
    audio = networks["audio"]
    if not config.attention_windows:
        return audio(rows)
    codes = audio(neighbour_windows(rows, config.attention_windows, config.stride))
    return jnp.where(smooth, networks["attention"](codes), codes[..., config.attention_windows // 2, :])
