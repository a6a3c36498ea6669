"""Makes image_networks.npz: AlexNet, VGG, LPIPS, Inception-v3 for FID and DFA-NeRF's disentangler, in torch.

Declared from the cards metrics and dfa_nerf. Run from the root of the tree in an environment with torch:
`python -m tests.goldens.make_image_networks [FOLDER]`. FOLDER holds the released heads of LPIPS
(lpips_lin_v0.1_{alex,vgg}.pth); without it their goldens are kept from the last run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.goldens.drawn import kept, uniform, weights

OUT = Path(__file__).parent / "image_networks.npz"


class AlexNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        convs = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
        for index, (inputs, outputs, kernel, stride, pad) in enumerate(convs):
            layers += [nn.Conv2d(inputs, outputs, kernel, stride, pad), nn.ReLU()]
            if index < 2:
                layers.append(nn.MaxPool2d(3, 2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.ModuleDict(
            {"1": nn.Linear(9216, 4096), "4": nn.Linear(4096, 4096), "6": nn.Linear(4096, 1000)}
        )

    def taps(self, x: torch.Tensor) -> list[torch.Tensor]:
        return rectified(self.features, x)


class Vgg(nn.Module):
    def __init__(self, repeats: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, count in zip((64, 128, 256, 512, 512), repeats, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.ModuleDict(
            {"0": nn.Linear(25088, 4096), "3": nn.Linear(4096, 4096), "6": nn.Linear(4096, 1000)}
        )
        self.last = [sum(repeats[: stage + 1]) - 1 for stage in range(5)]

    def taps(self, x: torch.Tensor) -> list[torch.Tensor]:
        outputs = rectified(self.features, x)
        return [outputs[place] for place in self.last]


def rectified(layers: nn.Sequential, x: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of all ReLUs."""
    outputs = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            outputs.append(x)
    return outputs


class ConvNorm(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: object, stride: int = 1, padding: object = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)  # type: ignore[arg-type]
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


def mean_pool(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def max_pool(x: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(x, 3, 1, 1)


class A(nn.Module):
    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(inputs, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = ConvNorm(inputs, 48, 1), ConvNorm(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvNorm(inputs, 64, 1)
        self.branch3x3dbl_2, self.branch3x3dbl_3 = ConvNorm(64, 96, 3, padding=1), ConvNorm(96, 96, 3, padding=1)
        self.branch_pool = ConvNorm(inputs, pooled, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(mean_pool(x))], 1)


class B(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(inputs, 384, 3, 2)
        self.branch3x3dbl_1 = ConvNorm(inputs, 64, 1)
        self.branch3x3dbl_2, self.branch3x3dbl_3 = ConvNorm(64, 96, 3, padding=1), ConvNorm(96, 96, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class C(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        row, column = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = ConvNorm(inputs, 192, 1)
        self.branch7x7_1 = ConvNorm(inputs, width, 1)
        self.branch7x7_2, self.branch7x7_3 = ConvNorm(width, width, **row), ConvNorm(width, 192, **column)
        self.branch7x7dbl_1 = ConvNorm(inputs, width, 1)
        self.branch7x7dbl_2, self.branch7x7dbl_3 = ConvNorm(width, width, **column), ConvNorm(width, width, **row)
        self.branch7x7dbl_4, self.branch7x7dbl_5 = ConvNorm(width, width, **column), ConvNorm(width, 192, **row)
        self.branch_pool = ConvNorm(inputs, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(mean_pool(x))], 1)


class D(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = ConvNorm(inputs, 192, 1), ConvNorm(192, 320, 3, 2)
        self.branch7x7x3_1 = ConvNorm(inputs, 192, 1)
        self.branch7x7x3_2 = ConvNorm(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)], 1)


class E(nn.Module):
    def __init__(self, inputs: int, pool: object) -> None:
        super().__init__()
        row, column = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
        self.branch1x1 = ConvNorm(inputs, 320, 1)
        self.branch3x3_1 = ConvNorm(inputs, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = ConvNorm(384, 384, **row), ConvNorm(384, 384, **column)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvNorm(inputs, 448, 1), ConvNorm(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = ConvNorm(384, 384, **row), ConvNorm(384, 384, **column)
        self.branch_pool = ConvNorm(inputs, 192, 1)
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        three = torch.cat([self.branch3x3_2a(three), self.branch3x3_2b(three)], 1)
        double = torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1)
        return torch.cat([self.branch1x1(x), three, double, self.branch_pool(self.pool(x))], 1)


class Inception(nn.Module):
    """Card metrics, section 2, with the patches of FID."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = ConvNorm(3, 32, 3, 2), ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = ConvNorm(64, 80, 1), ConvNorm(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = A(192, 32), A(256, 64), A(288, 64)
        self.Mixed_6a = B(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = C(768, 128), C(768, 160), C(768, 160), C(768, 192)
        self.Mixed_7a = D(768)
        self.Mixed_7b, self.Mixed_7c = E(1280, mean_pool), E(2048, max_pool)
        self.fc = nn.Linear(2048, 1008)

    def taps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Of pictures in [0, 1]; the features last."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(2 * x - 1)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        taps = [F.max_pool2d(x, 3, 2)]
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                taps.append(block(taps[-1]))
        return [*taps, taps[-1].mean((2, 3), keepdim=True)]


class Encoder(nn.Module):
    """Card dfa_nerf, 2.1."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(79, 128), nn.Linear(128, 256), nn.Linear(256, 256)
        self.branch1, self.branch2 = nn.Linear(256, 64), nn.Linear(256, 32)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.relu(self.fc3(F.relu(self.fc2(F.relu(self.fc1(x))))))
        return self.branch1(x), self.branch2(x)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(96, 128), nn.Linear(128, 256), nn.Linear(256, 79)

    def forward(self, other: torch.Tensor, mouth: torch.Tensor) -> torch.Tensor:
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(torch.cat([other, mouth], 1))))))


def lpips(trunk: nn.Module, heads: list[np.ndarray], first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Distance of pictures in [0, 1]."""
    shift = torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1)
    total = torch.zeros(len(first))
    taps = [trunk.taps((2 * x - 1 - shift) / scale) for x in (first, second)]  # type: ignore[operator]
    for head, one, other in zip(heads, *taps, strict=True):
        one, other = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (one, other))
        total += F.conv2d((one - other).square(), torch.from_numpy(head)).mean((1, 2, 3))
    return total


def drawn(network: nn.Module) -> nn.Module:
    """The network with the arrays of `drawn.weights`; what is not `features` of a classifier stays as it is."""
    state = network.state_dict()
    shapes = {key: tuple(array.shape) for key, array in state.items() if not key.startswith("classifier")}
    arrays = {key: torch.from_numpy(np.asarray(array)) for key, array in weights(shapes).items()}
    network.load_state_dict({**state, **arrays})
    return network.eval()


def torch_input(name: str, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(uniform(name, shape, low, high)).permute(0, 3, 1, 2)


def main() -> None:
    torch.set_grad_enabled(False)
    networks = {
        "alexnet": AlexNet(),
        "vgg16": Vgg((2, 2, 3, 3, 3)),
        "vgg19": Vgg((2, 2, 4, 4, 4)),
        "inception_fid": Inception(),
        "dfa_disentangler": Encoder(),
        "dfa_cat": Decoder(),
    }
    shapes = {name: {k: tuple(v.shape) for k, v in net.state_dict().items()} for name, net in networks.items()}
    for network in networks.values():
        drawn(network)
    inputs = {
        "alexnet": torch_input("alexnet pictures", 2, 67, 59, 3, low=-2, high=2),
        "vgg16": torch_input("vgg pictures", 2, 40, 37, 3, low=-2, high=2),
        "vgg19": torch_input("vgg pictures", 2, 40, 37, 3, low=-2, high=2),
        "inception_fid": torch_input("inception pictures", 1, 147, 163, 3),
    }
    arrays: dict[str, np.ndarray] = {}
    for name, x in inputs.items():
        for index, tap in enumerate(networks[name].taps(x)):  # type: ignore[operator]
            arrays[f"{name}/tap{index}"] = kept(tap.movedim(1, -1).numpy())
    codes = networks["dfa_disentangler"](torch.from_numpy(uniform("expressions", (3, 79), -2, 2)))
    arrays["dfa/other"], arrays["dfa/mouth"] = (code.numpy() for code in codes)
    arrays["dfa/decoded"] = networks["dfa_cat"](*codes).numpy()

    pairs = [torch_input(f"{which} pictures", 2, 64, 72, 3) for which in ("true", "rendered")]
    old = dict(np.load(OUT)) if OUT.is_file() else {}
    for net, name in {"alex": "alexnet", "vgg": "vgg16"}.items():
        channels = [tap.shape[1] for tap in networks[name].taps(pairs[0])]  # type: ignore[operator]
        heads = [uniform(f"lin{i}", (1, size, 1, 1)) for i, size in enumerate(channels)]
        arrays[f"lpips_{net}/drawn"] = lpips(networks[name], heads, *pairs).numpy()
        if len(sys.argv) > 1:
            file = torch.load(Path(sys.argv[1]) / f"lpips_lin_v0.1_{net}.pth", weights_only=True, map_location="cpu")
            heads = [file[f"lin{i}.model.1.weight"].numpy() for i in range(5)]
            arrays[f"lpips_{net}/released"] = lpips(networks[name], heads, *pairs).numpy()
        else:
            arrays[f"lpips_{net}/released"] = old[f"lpips_{net}/released"]

    for which, size in {"small": (40, 56), "large": (350, 310)}.items():
        x = torch_input(f"{which} pictures", 2, *size, 3)
        resized = F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)
        arrays[f"fid/{which}/resized"] = kept(resized.movedim(1, -1).numpy())
        if which == "small":
            arrays["fid/small/features"] = networks["inception_fid"].taps(resized)[-1][:, :, 0, 0].numpy()  # type: ignore[operator]
    np.savez_compressed(OUT, manifests=np.array(json.dumps(shapes)), **arrays)
    print(f"{OUT}: {OUT.stat().st_size} bytes, {len(arrays)} arrays")


if __name__ == "__main__":
    main()
