"""SyncNet's file, `syncnet_v2.model` of syncnet_python: a plain state dict (metrics card, section 4)."""

from __future__ import annotations

from jaxtalk.nn.pretrained.syncnet import SyncNet
from jaxtalk.weights.convert import Layout, modules

_CONVOLUTIONS = (0, 4, 8, 11, 14, 18)  # places in their sequences, where a norm, a ReLU and a pooling may follow


def _tower(ours: str, theirs: str) -> dict[str, str]:
    pairs = enumerate(_CONVOLUTIONS)
    return {
        f"{ours}/{index}/{part}": f"{theirs}.{place + after}"
        for index, place in pairs
        for after, part in enumerate(("conv", "norm"))
    }


def _head(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}/{part}": f"{theirs}.{place}" for part, place in (("hidden", 0), ("norm", 1), ("output", 3))}


SYNCNET = Layout(
    name="syncnet",
    network=lambda rngs: SyncNet(rngs=rngs),
    rules=modules(
        {
            **_tower("audio_layers", "netcnnaud"),
            **_head("audio_head", "netfcaud"),
            **_tower("lip_layers", "netcnnlip"),
            **_head("lip_head", "netfclip"),
        }
    ),
)
