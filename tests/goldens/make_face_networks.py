"""Makes face_networks.npz: IResNet, ResNet-34, ResNet-50 and Deep3D's network in torch, declared from the cards.

Run from the root of the tree in an environment with torch: `python -m tests.goldens.make_face_networks`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.goldens.drawn import kept, uniform, weights

OUT = Path(__file__).parent / "face_networks.npz"
WIDTHS = (64, 128, 256, 512)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class _FaceBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), _conv(inputs, width, 3)
        self.bn2, self.prelu = nn.BatchNorm2d(width), nn.PReLU(width)
        self.conv2, self.bn3 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class _Basic(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


def _stages(network: nn.Module, block: type, depths: tuple[int, ...], first_stride: int) -> int:
    width = 64
    for index, depth in enumerate(depths):
        blocks = []
        for place in range(depth):
            stride = 1 if place else (2 if index else first_stride)
            blocks.append(block(width, WIDTHS[index], stride))
            width = WIDTHS[index] * block.expansion
        setattr(network, f"layer{index + 1}", nn.Sequential(*blocks))
    return width


class IResNet(nn.Module):
    """Card metrics, section 2."""

    def __init__(self, depths: tuple[int, ...], size: int = 112) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = _conv(3, 64, 3), nn.BatchNorm2d(64), nn.PReLU(64)
        width = _stages(self, _FaceBlock, depths, 2)
        self.bn2, self.fc = nn.BatchNorm2d(width), nn.Linear(width * (size // 16) ** 2, 512)
        self.features = nn.BatchNorm1d(512)

    def taps(self, x: torch.Tensor) -> list[torch.Tensor]:
        taps = [self.prelu(self.bn1(self.conv1(x)))]
        for index in range(4):
            taps.append(getattr(self, f"layer{index + 1}")(taps[-1]))
        return [*taps, self.features(self.fc(self.bn2(taps[-1]).flatten(1)))]


class ResNet(nn.Module):
    """torchvision's names."""

    def __init__(self, block: type, depths: tuple[int, ...], classes: int | None = 1000) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        width = _stages(self, block, depths, 1)
        if classes:
            self.fc = nn.Linear(width, classes)

    def taps(self, x: torch.Tensor) -> list[torch.Tensor]:
        taps = [torch.relu(self.bn1(self.conv1(x)))]
        x = nn.functional.max_pool2d(taps[0], 3, 2, 1)
        for index in range(4):
            x = getattr(self, f"layer{index + 1}")(x)
            taps.append(x)
        return taps


class Deep3D(nn.Module):
    """Card nerffacespeech: a ResNet-50 without its last layer, and seven heads."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet(_Bottleneck, (3, 4, 6, 3), classes=None)
        self.final_layers = nn.ModuleList(nn.Conv2d(2048, size, 1) for size in (80, 64, 80, 3, 27, 2, 1))

    def taps(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.backbone.taps(x)[-1].mean((2, 3), keepdim=True)
        return [torch.cat([layer(x) for layer in self.final_layers], 1).flatten(1)]


def main() -> None:
    torch.set_grad_enabled(False)
    networks = {
        "iresnet50": IResNet((3, 4, 14, 3)),
        "resnet34": ResNet(_Basic, (3, 4, 6, 3)),
        "resnet50": ResNet(_Bottleneck, (3, 4, 6, 3)),
        "deep3d_resnet50": Deep3D(),
    }
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    inputs = {
        "iresnet50": torch.from_numpy(uniform("aligned faces", (2, 112, 112, 3), -1, 1)),
        # What `jaxtalk.nn.resnet` does itself.
        "resnet34": (torch.from_numpy(uniform("pictures", (2, 64, 64, 3))) - mean) / deviation,
        "resnet50": torch.from_numpy(uniform("pictures", (2, 64, 64, 3))),
        "deep3d_resnet50": torch.from_numpy(uniform("pictures", (2, 64, 64, 3))),
    }
    arrays: dict[str, np.ndarray] = {}
    manifests = {"iresnet100": IResNet((3, 13, 30, 3)).state_dict()}
    manifests |= {name: network.state_dict() for name, network in networks.items()}
    shapes = {name: {key: tuple(array.shape) for key, array in state.items()} for name, state in manifests.items()}
    for name, network in networks.items():
        drawn = weights(shapes[name])
        network.load_state_dict({key: torch.from_numpy(np.asarray(array)) for key, array in drawn.items()})
        for index, tap in enumerate(network.eval().taps(inputs[name].permute(0, 3, 1, 2))):
            arrays[f"{name}/tap{index}"] = kept(tap.movedim(1, -1).numpy())
    np.savez_compressed(OUT, manifests=np.array(json.dumps(shapes)), **arrays)
    print(f"{OUT}: {OUT.stat().st_size} bytes, {len(arrays)} taps")


if __name__ == "__main__":
    main()
