"""What the trained sync network says of clips: embeddings of all their windows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtalk.clip import ClipView
from jaxtalk.few_shot.speech import consecutive_starts
from jaxtalk.methods.api import Run
from jaxtalk.methods.s3d_nerf.sync_examples import FPS, check_rate, window_frames, window_mel
from jaxtalk.nn.sync_network import SyncNetwork
from jaxtalk.ops.crops import lip_crops

_BATCH = 32  # windows at a time


def sync_embeddings(run: Run, clip: ClipView) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of lips and of speech, each [F, E], by a run's sync network; see `embed_clip`."""
    network = run.networks("sync")["sync"]
    assert isinstance(network, SyncNetwork)
    return embed_clip(network, clip)


def embed_clip(network: SyncNetwork, clip: ClipView) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [F, E] of the lips and of the speech of the windows that begin at each 25th of a second.

    Rows are counted from the clip's first frame by time; one where no window begins, because frames are missing or the
    clip ends, is NaN.

    Raises:
        JaxtalkError: a clip of another rate than 25 frames a second, or too short for a window.
    """
    check_rate(clip)
    time, starts = clip.track.time, consecutive_starts(clip, network.frames)
    mel, found = window_mel(clip, starts, network.frames), []
    for first in range(0, len(starts), _BATCH):
        part = np.minimum(np.arange(first, first + _BATCH), len(starts) - 1)  # all of one size: compiled once
        windows = [window_frames(clip, int(start), network.frames) for start in starts[part]]
        pictures, boxes = (np.stack([window[name] for window in windows]) for name in ("frames", "boxes"))
        found.append(embed_windows(network, pictures, boxes, mel[part]))
    rows = np.rint((time[starts] - time[0]) * FPS).astype(int)
    grid = np.full((2, rows[-1] + 1, found[0][0].shape[1]), np.nan, np.float32)
    for which in range(2):
        grid[which, rows] = np.concatenate([pair[which] for pair in found])[: len(starts)]
    return grid[0], grid[1]


def embed_windows(
    network: SyncNetwork, frames: np.ndarray, boxes: np.ndarray, mel: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [N, E] of lips and speech of windows [N, T, H, W, 3] uint8, [N, T, 4] and [N, 80, columns]."""
    lips, speech = jax.device_get(_embed(network, jnp.asarray(frames), jnp.asarray(boxes), jnp.asarray(mel)))
    return lips, speech


@nnx.jit
def _embed(network: SyncNetwork, frames: jax.Array, boxes: jax.Array, mel: jax.Array) -> tuple[jax.Array, jax.Array]:
    return network.faces(lip_crops(frames / 255.0, boxes, network.lip_size)), network.audio(mel)
