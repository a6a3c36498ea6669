"""Makes speech_networks.npz: SyncNet, Wav2Lip's sync expert and wav2vec2 in torch, declared from the cards.

Run from the root of the tree in an environment with torch: `python -m tests.goldens.make_speech_networks`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.goldens.drawn import kept, uniform, weights

OUT = Path(__file__).parent / "speech_networks.npz"
SMALL = {"conv_width": 32, "width": 48, "hidden": 96, "heads": 4, "layers": 2, "groups": 4}
BASE = {"conv_width": 512, "width": 768, "hidden": 3072, "heads": 12, "layers": 12, "groups": 16}


def syncnet() -> nn.Module:
    """Card metrics, section 4."""
    audio = [*_block(nn.Conv2d(1, 64, 3, padding=1)), nn.MaxPool2d(1, 1)]
    audio += [*_block(nn.Conv2d(64, 192, 3, padding=1)), nn.MaxPool2d(3, (1, 2))]
    for inputs, outputs in ((192, 384), (384, 256), (256, 256)):
        audio += _block(nn.Conv2d(inputs, outputs, 3, padding=1))
    audio += [nn.MaxPool2d(3, 2), *_block(nn.Conv2d(256, 512, (5, 4)))]
    lip = [*_block(nn.Conv3d(3, 96, (5, 7, 7), (1, 2, 2))), nn.MaxPool3d((1, 3, 3), (1, 2, 2))]
    lip += _block(nn.Conv3d(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1)))
    lip += [nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))]
    for _ in range(3):
        lip += _block(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1)))
    lip += [nn.MaxPool3d((1, 3, 3), (1, 2, 2)), *_block(nn.Conv3d(256, 512, (1, 6, 6)))]
    return nn.ModuleDict(
        {"netcnnaud": nn.Sequential(*audio), "netfcaud": _head(), "netcnnlip": nn.Sequential(*lip), "netfclip": _head()}
    )


def _block(conv: nn.Module) -> list[nn.Module]:
    norm = nn.BatchNorm3d if isinstance(conv, nn.Conv3d) else nn.BatchNorm2d
    return [conv, norm(conv.out_channels), nn.ReLU()]


def _head() -> nn.Module:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


def syncnet_taps(network: nn.Module) -> dict[str, torch.Tensor]:
    frames = torch.from_numpy(uniform("syncnet frames", (1, 6, 224, 224, 3), 0, 255)).permute(0, 4, 1, 2, 3)
    cepstra = torch.from_numpy(uniform("syncnet cepstra", (3, 13, 20), -20, 20))
    taps = {f"lips{i}": tap for i, tap in enumerate(_blocks(network["netcnnlip"], frames))}
    windows = network["netcnnlip"](frames)[:, :, :, 0, 0].permute(0, 2, 1)
    taps["lips"] = torch.stack([network["netfclip"](window) for window in windows])
    cepstra = cepstra[:, None]
    taps |= {f"audio{i}": tap for i, tap in enumerate(_blocks(network["netcnnaud"], cepstra))}
    taps["audio"] = network["netfcaud"](network["netcnnaud"](cepstra).flatten(1))
    return taps


def _blocks(tower: nn.Sequential, x: torch.Tensor) -> Iterable[torch.Tensor]:
    """Outputs, channels last, of the parts of a SyncNet tower that begin with a convolution."""
    starts = (0, 4, 8, 11, 14, 18)
    for start, end in zip(starts, (*starts[1:], len(tower)), strict=True):
        x = tower[start:end](x)
        yield _last(x)


def _last(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(1, -1)


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: object, padding: int, residual: bool) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.BatchNorm2d(outputs))
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv_block(x)
        return torch.relu(y + x if self.residual else y)


def expert() -> nn.Module:
    """Card s3d_nerf, section 2.9. Entries: width, kernel, stride, padding, residual layers that follow."""
    face = ((32, 7, 1, 3, 0), (64, 5, (1, 2), 1, 2), (128, 3, 2, 1, 3), (256, 3, 2, 1, 2), (512, 3, 2, 1, 2),
            (512, 3, 2, 1, 0), (512, 3, 1, 0, 0), (512, 1, 1, 0, 0))  # fmt: skip
    audio = ((32, 3, 1, 1, 2), (64, 3, (3, 1), 1, 2), (128, 3, 3, 1, 2), (256, 3, (3, 2), 1, 2), (512, 3, 1, 0, 0),
             (512, 1, 1, 0, 0))  # fmt: skip
    return nn.ModuleDict({"face_encoder": _encoder(15, face), "audio_encoder": _encoder(1, audio)})


def _encoder(inputs: int, table: Iterable[tuple]) -> nn.Module:
    layers: list[nn.Module] = []
    for width, kernel, stride, padding, repeats in table:
        layers.append(_Residual(inputs, width, kernel, stride, padding, False))
        layers += [_Residual(width, width, 3, 1, 1, True) for _ in range(repeats)]
        inputs = width
    return nn.Sequential(*layers)


def expert_taps(network: nn.Module) -> dict[str, torch.Tensor]:
    inputs = {
        "face": torch.from_numpy(uniform("expert frames", (2, 48, 96, 15))).permute(0, 3, 1, 2),
        "audio": torch.from_numpy(uniform("expert mel", (2, 80, 16), -4, 4))[:, None],
    }
    taps = {}
    for name, x in inputs.items():
        for index, layer in enumerate(network[f"{name}_encoder"]):
            x = layer(x)
            taps[f"{name}{index}"] = _last(x)
        taps[name] = functional.normalize(x.flatten(1), dim=1)
    return taps


class _Wav2Vec2(nn.Module):
    """Card metrics, section 5, with the names of the published files."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        conv, width = sizes["conv_width"], sizes["width"]
        self.masked_spec_embed = nn.Parameter(torch.zeros(width))
        self.feature_extractor = nn.Module()
        self.feature_extractor.conv_layers = nn.ModuleList()
        for index, (kernel, stride) in enumerate(zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True)):
            layer = nn.Module()
            layer.conv = nn.Conv1d(conv if index else 1, conv, kernel, stride, bias=False)
            if not index:
                layer.layer_norm = nn.GroupNorm(conv, conv)
            self.feature_extractor.conv_layers.append(layer)
        self.feature_projection = nn.Module()
        self.feature_projection.layer_norm = nn.LayerNorm(conv)
        self.feature_projection.projection = nn.Linear(conv, width)
        self.encoder = nn.Module()
        self.encoder.pos_conv_embed = nn.Module()
        position = nn.Conv1d(width, width, 128, padding=64, groups=sizes["groups"])
        self.encoder.pos_conv_embed.conv = nn.utils.parametrizations.weight_norm(position, dim=2)
        self.encoder.layer_norm = nn.LayerNorm(width)
        self.encoder.layers = nn.ModuleList(_encoder_layer(width, sizes["hidden"]) for _ in range(sizes["layers"]))
        self.heads = sizes["heads"]

    def taps(self, samples: torch.Tensor) -> list[torch.Tensor]:
        x = samples[:, None]
        for layer in self.feature_extractor.conv_layers:
            x = layer.conv(x)
            x = functional.gelu(layer.layer_norm(x) if hasattr(layer, "layer_norm") else x)
        x = x.transpose(1, 2)
        taps = [x]
        x = self.feature_projection.projection(self.feature_projection.layer_norm(x))
        taps.append(x)
        position = functional.gelu(self.encoder.pos_conv_embed.conv(x.transpose(1, 2))[:, :, :-1])
        x = self.encoder.layer_norm(x + position.transpose(1, 2))
        taps.append(x)
        for layer in self.encoder.layers:
            x = layer.layer_norm(x + self._attended(layer.attention, x))
            inner = functional.gelu(layer.feed_forward.intermediate_dense(x))
            x = layer.final_layer_norm(x + layer.feed_forward.output_dense(inner))
            taps.append(x)
        return taps

    def _attended(self, attention: nn.Module, x: torch.Tensor) -> torch.Tensor:
        parts = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        return attention.out_proj(functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


def _encoder_layer(width: int, hidden: int) -> nn.Module:
    layer = nn.Module()
    layer.attention = nn.Module()
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        setattr(layer.attention, name, nn.Linear(width, width))
    layer.layer_norm = nn.LayerNorm(width)
    layer.feed_forward = nn.Module()
    layer.feed_forward.intermediate_dense = nn.Linear(width, hidden)
    layer.feed_forward.output_dense = nn.Linear(hidden, width)
    layer.final_layer_norm = nn.LayerNorm(width)
    return layer


def wav2vec2_taps(network: nn.Module) -> dict[str, torch.Tensor]:
    samples = torch.from_numpy(uniform("wav2vec2 samples", (2, 4000), -1.7, 1.7))
    return {f"tap{index}": tap for index, tap in enumerate(network.taps(samples))}


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in network.state_dict().items()}


def main() -> None:
    torch.set_grad_enabled(False)
    networks = {"syncnet": syncnet(), "wav2lip_expert": expert(), "wav2vec2_small": _Wav2Vec2(SMALL)}
    taps = {"syncnet": syncnet_taps, "wav2lip_expert": expert_taps, "wav2vec2_small": wav2vec2_taps}
    gains = {"syncnet": {"netcnnlip.0.weight": 1 / 128, "netcnnaud.0.weight": 1 / 10}}
    arrays: dict[str, np.ndarray] = {}
    manifests = {"wav2vec2_base": shapes(_Wav2Vec2(BASE))}
    for name, network in networks.items():
        manifests[name] = shapes(network)
        drawn = weights(manifests[name], gains.get(name))
        network.load_state_dict({key: torch.from_numpy(np.asarray(array)) for key, array in drawn.items()})
        for tap, value in taps[name](network.eval()).items():
            arrays[f"{name}/{tap}"] = kept(value.numpy())
    np.savez_compressed(OUT, manifests=np.array(json.dumps(manifests)), gains=np.array(json.dumps(gains)), **arrays)
    print(f"{OUT}: {OUT.stat().st_size} bytes, {len(arrays)} taps")


if __name__ == "__main__":
    main()
