"""Wav2Lip's `lipsync_expert.pth`: a checkpoint whose `state_dict` holds the network (card s3d_nerf, section 2.9)."""

from __future__ import annotations

from jaxtalk.nn.pretrained.wav2lip_expert import Wav2LipExpert
from jaxtalk.weights.convert import Layout, modules

WAV2LIP_EXPERT = Layout(
    name="wav2lip_expert",
    network=lambda rngs: Wav2LipExpert(rngs=rngs),
    rules=modules(
        {
            f"{tower}_layers/*/{part}": f"{tower}_encoder.*.conv_block.{place}"
            for tower in ("face", "audio")
            for place, part in enumerate(("conv", "norm"))
        }
    ),
    entry="state_dict",
    prefix="module.",
)
