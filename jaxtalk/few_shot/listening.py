"""Coefficients of an utterance of any length from its consecutive windows (card gdrf 2.1, inference)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.methods.api import Networks
from jaxtalk.nn.lstm import State

SEQUENCE = 16  # frames the LSTM hears at once, as in training
STRIDE = 8  # frames from one sequence to the next
_FRESH = 128  # frames predicted by one call of the compiled program
NETWORKS = ("speech", "normaliser")


def predict(networks: Networks, windows: Float[np.ndarray, "frames 28 12"], *, stateful: bool) -> np.ndarray:
    """Expression and pose [F, E + 6], raw units, float32, of F consecutive frames; see `listen`."""
    return np.concatenate(list(listen(networks, iter([np.asarray(windows)]), stateful=stateful)))


def listen(networks: Networks, chunks: Iterator[np.ndarray], *, stateful: bool) -> Iterator[np.ndarray]:
    """Windows [n, 28, 12] of consecutive frames, in chunks of any lengths, to [n, E + 6] for each chunk.

    Sequences of 16 frames begin every 8 frames with an empty state, as in training, and where two overlap their mean
    is taken; `stateful` goes through the utterance once and carries the state. Either way a frame's values depend on
    what was said until then and not on how long the utterance or a chunk is: memory stays constant.

    Args:
        networks: with `speech` (`SpeechToCoefficients`) and `normaliser`.
    """
    graphs, arrays = _split(networks)
    run = _Carried(graphs, arrays) if stateful else _Overlapped(graphs, arrays)
    for chunk in chunks:
        chunk = np.asarray(chunk, np.float32)
        yield run(chunk) if len(chunk) else np.zeros((0, arrays["normaliser"]["mean"].shape[0]), np.float32)


Graphs = tuple[nnx.GraphDef, nnx.GraphDef]
Arrays = dict[str, Any]  # network -> pure dict


def _split(networks: Networks) -> tuple[Graphs, Arrays]:
    parts = {name: nnx.split(networks[name]) for name in NETWORKS}
    graphs = (parts["speech"][0], parts["normaliser"][0])
    return graphs, {name: nnx.to_pure_dict(state) for name, (_, state) in parts.items()}


class _Overlapped:
    """Keeps the last one or two half sequences of windows, so that the next chunk can begin anywhere."""

    def __init__(self, graphs: Graphs, arrays: Arrays) -> None:
        self._graphs, self._arrays = graphs, arrays
        self._held: np.ndarray | None = None

    def __call__(self, fresh: np.ndarray) -> np.ndarray:
        known = 0 if self._held is None else len(self._held)
        windows = fresh if self._held is None else np.concatenate([self._held, fresh])
        parts = []
        for start in range(0, max(len(windows) - STRIDE, 1), _FRESH):
            part = _padded(windows[start : start + _FRESH + STRIDE], _FRESH + STRIDE)
            values = np.asarray(_overlapping(self._graphs, self._arrays, part))
            parts.append(values[STRIDE if start else 0 :])
        # What comes next may share a sequence with the last begun half sequence and the whole one before it.
        keep = max(0, STRIDE * (len(windows) // STRIDE) - STRIDE)
        self._held = windows[keep:]
        return np.concatenate(parts)[known : len(windows)]


class _Carried:
    """Carries the state from piece to piece; the rest that fills no piece is heard again with the next chunk."""

    def __init__(self, graphs: Graphs, arrays: Arrays) -> None:
        self._graphs, self._arrays = graphs, arrays
        self._held: np.ndarray | None = None
        self._state: State | None = None

    def __call__(self, fresh: np.ndarray) -> np.ndarray:
        known = 0 if self._held is None else len(self._held)
        windows = fresh if self._held is None else np.concatenate([self._held, fresh])
        state = _empty_state(self._graphs, self._arrays) if self._state is None else self._state
        parts = []
        for start in range(0, len(windows), _FRESH):
            part = windows[start : start + _FRESH]
            values, after = _continued(self._graphs, self._arrays, _padded(part, _FRESH), state)
            parts.append(np.asarray(values))
            if len(part) == _FRESH:
                state = after
        self._held, self._state = windows[len(windows) - len(windows) % _FRESH :], state
        return np.concatenate(parts)[known : len(windows)]


def _padded(windows: np.ndarray, length: int) -> np.ndarray:
    # Values of a frame do not depend on later ones: what is added at the end changes nothing.
    return np.pad(windows, ((0, length - len(windows)), (0, 0), (0, 0)))


def _merge(graphs: Graphs, arrays: Arrays) -> tuple[Any, Any]:
    return nnx.merge(graphs[0], arrays["speech"]), nnx.merge(graphs[1], arrays["normaliser"])


@functools.partial(jax.jit, static_argnums=0)
def _overlapping(
    graphs: Graphs, arrays: Arrays, windows: Float[Array, "frames 28 12"]
) -> Float[Array, "frames outputs"]:
    """Coefficients of a piece whose length is a multiple of 8; the first 8 frames are heard by one sequence only."""
    speech, normaliser = _merge(graphs, arrays)
    codes = speech.encode(windows)  # once a frame, though two sequences read it
    halves = codes.reshape(-1, STRIDE, codes.shape[-1])
    after = jnp.concatenate([halves[1:], jnp.zeros_like(halves[:1])])
    values, _ = speech.decode(jnp.concatenate([halves, after], 1))
    begun, ended = values[:, :STRIDE], values[:-1, STRIDE:]
    mean = jnp.concatenate([begun[:1], (begun[1:] + ended) / 2])
    return normaliser.restore(mean.reshape(len(windows), -1))


@functools.partial(jax.jit, static_argnums=0)
def _continued(
    graphs: Graphs, arrays: Arrays, windows: Float[Array, "frames 28 12"], state: State
) -> tuple[Float[Array, "frames outputs"], State]:
    speech, normaliser = _merge(graphs, arrays)
    values, state = speech(windows, state)
    return normaliser.restore(values), state


def _empty_state(graphs: Graphs, arrays: Arrays) -> State:
    lstm = _merge(graphs, arrays)[0].lstm
    zeros = jnp.zeros((len(lstm.layers), lstm.hidden))
    return zeros, zeros
