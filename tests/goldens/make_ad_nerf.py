"""Makes ad_nerf.npz: what AD-NeRF's and DFRF's networks and renderers give, in torch, declared from card gdrf.md.

Rays, samples and colours follow the published conventions (pixel centres at whole numbers, camera-to-world matrices),
so that the goldens test the import as a whole. Run from the root of the tree in an environment with torch:
`python -m tests.goldens.make_ad_nerf`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.goldens.ad_nerf_scene import (
    COARSE,
    FAR,
    FINE,
    FOCAL,
    FRAMES,
    NEAR,
    PICTURES,
    SIZE,
    SKIPPED,
    WIDTH,
    background,
    camera_to_world,
    noise,
    speech,
    state,
)
from tests.goldens.drawn import uniform

OUT = Path(__file__).parent / "ad_nerf.npz"


def encoded(x: torch.Tensor, count: int) -> torch.Tensor:
    waves = [wave(x * 2.0**power) for power in range(count) for wave in (torch.sin, torch.cos)]
    return torch.cat([x, *waves], -1)


def sequential(*layers: nn.Module, slope: float = 0.02) -> nn.Sequential:
    """The layers with a leaky ReLU after each but the last."""
    parts: list[nn.Module] = []
    for layer in layers:
        parts += [layer, nn.LeakyReLU(slope)]
    return nn.Sequential(*parts[:-1])


class AudioNet(nn.Module):
    def __init__(self, code: int = 64) -> None:
        super().__init__()
        sizes = (29, 32, 32, 64, 64)
        convolutions = [nn.Conv1d(sizes[i], sizes[i + 1], 3, 2, 1) for i in range(4)]
        self.encoder_conv = nn.Sequential(*sequential(*convolutions), nn.LeakyReLU(0.02))
        self.encoder_fc1 = sequential(nn.Linear(64, 64), nn.Linear(64, code))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self.encoder_fc1(self.encoder_conv(windows.transpose(1, 2))[..., 0])


class AudioAttNet(nn.Module):
    def __init__(self, windows: int = 8) -> None:
        super().__init__()
        sizes = (32, 16, 8, 4, 2, 1)
        convolutions = [nn.Conv1d(sizes[i], sizes[i + 1], 3, 1, 1) for i in range(5)]
        self.attentionConvNet = nn.Sequential(*sequential(*convolutions), nn.LeakyReLU(0.02))
        self.attentionNet = nn.Sequential(nn.Linear(windows, windows), nn.Softmax(1))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        scores = self.attentionConvNet(codes[:, :32].T[None])[:, 0]
        return (self.attentionNet(scores)[0][:, None] * codes).sum(0)


class FaceNeRF(nn.Module):
    def __init__(self, inputs: int, views: int = 27, width: int = WIDTH, depth: int = 8, skip: int = 4) -> None:
        super().__init__()
        self.skip = skip
        sizes = [inputs, *(width + inputs * (i == skip) for i in range(depth - 1))]
        self.pts_linears = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        half = width // 2
        self.views_linears = nn.ModuleList(
            [nn.Linear(views + width, half), nn.Linear(half, half), nn.Linear(half, half)]
        )
        self.feature_linear = nn.Linear(width, width)  # saved, and never asked
        self.alpha_linear, self.rgb_linear = nn.Linear(width, 1), nn.Linear(half, 3)

    def forward(self, own: torch.Tensor, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = own
        for index, layer in enumerate(self.pts_linears):
            hidden = torch.relu(layer(hidden))
            if index == self.skip:
                hidden = torch.cat([own, hidden], -1)
        density, hidden = self.alpha_linear(hidden)[..., 0], torch.cat([hidden, views], -1)
        for layer in self.views_linears:
            hidden = torch.relu(layer(hidden))
        return density, self.rgb_linear(hidden)


class FeatureExtractor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(66, 64, 3, 1, 1), nn.ReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU())
        self.fc = nn.Linear(64, 128)

    def forward(self, images: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        colour = encoded(images, 5)
        x = torch.cat([colour, encoded(places, 5)[:, None, None].expand_as(colour)], -1)
        return self.fc(self.conv2(self.conv1(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1))


class PositionWarp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(255, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x).clamp(-10, 10)


class SlotAttention(nn.Module):
    def __init__(self, dim: int = 128, inputs: int = 130) -> None:
        super().__init__()
        self.slots_mu = nn.Parameter(torch.zeros(1, 1, dim))
        self.slots_logsigma = nn.Parameter(torch.zeros(1, 1, dim))
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.gru = nn.GRUCell(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.norm_input, self.norm_slots, self.norm_pre_ff = (nn.LayerNorm(dim) for _ in range(3))
        self.fc1, self.fc6 = nn.Sequential(nn.Linear(inputs, 32), nn.ReLU()), nn.Linear(32, 32)
        self.fc7 = nn.Sequential(nn.Linear(inputs + 63 + 32, dim), nn.LeakyReLU())

    def forward(self, inputs: torch.Tensor, points: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """inputs [points, views, 130], points [points, 63], drawn [2, dim]: slots [points, 2 dim]."""
        points = points[:, None].expand(-1, inputs.shape[1], -1)
        x = self.norm_input(self.fc7(torch.cat([inputs, points, self.fc6(self.fc1(inputs))], -1)))
        key, value = self.to_k(x), self.to_v(x)
        slots = (self.slots_mu[0] + self.slots_logsigma[0].exp() * drawn).expand(len(x), -1, -1)
        for _ in range(2):
            query = self.to_q(self.norm_slots(slots))
            attention = (query @ key.mT * key.shape[-1] ** -0.5).softmax(1) + 1e-8
            update = attention / attention.sum(-1, keepdim=True) @ value
            slots = self.gru(update.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
            slots = slots + self.mlp(self.norm_pre_ff(slots))
        return slots.flatten(1)


class FaceWithSlots(nn.Module):
    """What DFRF saves as coarse and fine: the field and the slot attention that both share."""

    def __init__(self, slots: SlotAttention) -> None:
        super().__init__()
        self.nerf_model, self.slot_att = FaceNeRF(383), slots


def rays(matrix: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Origin [3] and directions [H W, 3] of all pixels, row by row."""
    column, row = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    plane = np.stack([(column - SIZE / 2) / FOCAL, -(row - SIZE / 2) / FOCAL, -np.ones_like(column, float)], -1)
    directions = plane.reshape(-1, 3) @ matrix[:3, :3].T
    return torch.tensor(matrix[:3, 3]).float(), torch.tensor(directions).float()


def seen(ask, origin: torch.Tensor, directions: torch.Tensor, behind: torch.Tensor) -> list[dict[str, torch.Tensor]]:  # type: ignore[no-untyped-def]
    """Coarse, then fine: colour, the part before the background, and the last sample's weight."""
    share = torch.linspace(0, 1, COARSE)
    depths = (NEAR * (1 - share) + FAR * share).expand(len(directions), -1)
    found = [_along(ask[0], origin, directions, depths, behind)]
    middle = (depths[:, 1:] + depths[:, :-1]) / 2
    extra = _drawn(middle, found[0]["weights"][:, 1:-1])
    depths = torch.sort(torch.cat([depths, extra], -1), -1)[0]
    return [*found, _along(ask[1], origin, directions, depths, behind)]


def _along(ask, origin, directions, depths, behind):  # type: ignore[no-untyped-def]
    points = origin + directions[:, None] * depths[..., None]
    density, colour = ask(points, directions)
    length = torch.cat([depths.diff(dim=-1), torch.full_like(depths[:, :1], 1e10)], -1)
    alpha = 1 - torch.exp(-(torch.relu(density) + 1e-6) * length * directions.norm(dim=-1, keepdim=True))
    through = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], -1), -1)[:, :-1]
    weight = alpha * through
    front = (weight[:, :-1, None] * torch.sigmoid(colour[:, :-1])).sum(1)
    return {"rgb": front + weight[:, -1:] * behind, "front": front, "last": weight[:, -1], "weights": weight}


def _drawn(edges: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """FINE evenly spaced quantiles of a histogram."""
    share = (weight + 1e-5) / (weight + 1e-5).sum(-1, keepdim=True)
    total = torch.cat([torch.zeros_like(share[:, :1]), share.cumsum(-1)], -1)
    wanted = torch.linspace(0, 1, FINE).expand(len(edges), -1).contiguous()
    above = torch.searchsorted(total, wanted, right=True)
    low, high = (above - 1).clamp(min=0), above.clamp(max=total.shape[-1] - 1)
    step = total.gather(1, high) - total.gather(1, low)
    step = torch.where(step < 1e-5, torch.ones_like(step), step)
    start = edges.gather(1, low)
    return start + (wanted - total.gather(1, low)) / step * (edges.gather(1, high) - start)


def field(network: FaceNeRF, code: torch.Tensor):  # type: ignore[no-untyped-def]
    def ask(points: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        unit = directions / directions.norm(dim=-1, keepdim=True)
        views = encoded(unit, 4)[:, None].expand(*points.shape[:2], -1)
        own = torch.cat([encoded(points, 10), code.expand(*points.shape[:2], -1)], -1)
        return network(own, views)

    return ask


def pose_code(matrix: np.ndarray) -> torch.Tensor:
    """The torso's pose: angles as the published code reads them off the camera-to-world matrix, and the place."""
    r = matrix
    angles = [np.arctan2(r[2, 2], r[1, 2]), np.arcsin(-r[0, 2]), np.arctan2(r[0, 0], -r[0, 1])]
    return torch.cat([encoded(torch.tensor(angles).float(), 3), encoded(torch.tensor(r[:3, 3]).float(), 3)])


def load(entry: str, network: nn.Module, shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    """Draws a network's arrays by their entry and name, and notes their shapes."""
    shapes[entry] = {name: tuple(array.shape) for name, array in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state(entry, shapes[entry]).items()})


def codes(shapes: dict[str, dict[str, tuple[int, ...]]], system: str) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Of each pictured frame: its own code, and the smoothed one of the windows around it."""
    audio, attention = AudioNet(), AudioAttNet()
    load(f"{system}/network_audnet_state_dict", audio, shapes)
    load(f"{system}/network_audattnet_state_dict", attention, shapes)
    windows = torch.from_numpy(speech())
    return {i: (audio(windows[i : i + 1])[0], attention(audio(windows[i - 4 : i + 4]))) for i in PICTURES}


def ad_nerf(arrays: dict[str, np.ndarray], shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    found = codes(shapes, "head")
    networks = {"head": [FaceNeRF(127), FaceNeRF(127)], "body": [FaceNeRF(169), FaceNeRF(169)]}
    for name, pair in networks.items():
        for entry, network in zip(("network_fn_state_dict", "network_fine_state_dict"), pair, strict=True):
            load(f"{name}/{entry}", network, shapes)
    load("body/network_audnet_state_dict", AudioNet(), shapes)
    behind = torch.from_numpy(background()).reshape(-1, 3)
    for frame, (own, smooth) in found.items():
        arrays[f"code/{frame}"], arrays[f"smooth/{frame}"] = own.numpy(), smooth.numpy()
        matrix = camera_to_world(frame)
        head = seen([field(network, smooth) for network in networks["head"]], *rays(matrix), behind)
        deaf = seen([field(network, own) for network in networks["head"]], *rays(matrix), behind)
        signal = torch.cat([smooth, pose_code(matrix)])
        body = seen([field(network, signal) for network in networks["body"]], *rays(camera_to_world(0)), behind)
        whole = head[1]["rgb"] * body[1]["last"][:, None] + body[1]["front"]
        for name, picture in (
            ("coarse", head[0]["rgb"]),
            ("head", head[1]["rgb"]),
            ("own", deaf[1]["rgb"]),
            ("whole", whole),
        ):
            arrays[f"{name}/{frame}"] = picture.reshape(SIZE, SIZE, 3).numpy()
    points = torch.from_numpy(uniform("points", (20, 3, 3), -0.1, 0.1))
    directions = torch.from_numpy(uniform("directions", (20, 3), -1, 1))
    density, colour = field(networks["head"][1], own)(points, directions)
    arrays["points/density"], arrays["points/colour"] = density.numpy(), colour.numpy()


def dfrf(arrays: dict[str, np.ndarray], shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    found = codes(shapes, "dfrf")
    encoder, warp, slots = FeatureExtractor(), PositionWarp(), SlotAttention()
    for entry, network in (("unet", encoder), ("position_warp", warp), ("attention", slots)):
        load(f"dfrf/{entry}_state_dict", network, shapes)
    fields = [FaceNeRF(383), FaceNeRF(383)]
    for entry, network in zip(("network_fn_state_dict", "network_fine_state_dict"), fields, strict=True):
        load(f"dfrf/{entry}/nerf_model", network, shapes)
    frame = PICTURES[0]
    code, (origin, directions) = found[frame][1], rays(camera_to_world(frame))
    images = torch.from_numpy(uniform("references", (4, SIZE, SIZE, 3)))
    views = [camera_to_world(i) for i in range(4)]
    maps = encoder(images, torch.tensor(np.stack([view[:3, 3] for view in views])).float())
    arrays["dfrf/maps"] = maps[:, ::3, ::3].numpy()

    def ask(network: FaceNeRF):  # type: ignore[no-untyped-def]
        def answer(points: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            flat = points.reshape(-1, 3)
            position, gathered = encoded(flat, 10), []
            for view, features in zip(views, maps, strict=True):
                local = (flat - torch.tensor(view[:3, 3]).float()) @ torch.tensor(view[:3, :3]).float()
                row = SIZE / 2 + FOCAL * local[:, 1] / local[:, 2]
                column = SIZE / 2 - FOCAL * local[:, 0] / local[:, 2]
                place = torch.stack([row, column], -1).clamp(0, SIZE - 1).round()
                near = features[place[:, 0].long(), place[:, 1].long()]
                place = place + warp(torch.cat([position, code.expand(len(flat), -1), near], -1))
                place = place.clamp(0, SIZE - 1)
                grid = ((2 * place + 1) / SIZE - 1).flip(-1)[None, :, None]
                read = nn.functional.grid_sample(
                    features.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False
                )
                gathered.append(torch.cat([read[0, :, :, 0].T, place.int().float()], -1))
            found = slots(torch.stack(gathered, 1), position, torch.from_numpy(noise()))
            own = torch.cat([found, position, code.expand(len(flat), -1)], -1).reshape(*points.shape[:2], -1)
            views_ = encoded(directions / directions.norm(dim=-1, keepdim=True), 4)[:, None]
            return network(own, views_.expand(*points.shape[:2], -1))

        return answer

    directions, behind = directions[::SKIPPED], torch.from_numpy(background()).reshape(-1, 3)[::SKIPPED]
    picture = seen([ask(network) for network in fields], origin, directions, behind)
    arrays["dfrf/picture"] = picture[1]["rgb"].numpy()
    density, colour = ask(fields[1])(origin + 0.8 * directions[:, None], directions)
    arrays["dfrf/density"], arrays["dfrf/colour"] = density.numpy(), colour.numpy()


def published() -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of the fields at their full size, by the number of their inputs."""
    found = {str(inputs): FaceNeRF(inputs, width=256).state_dict() for inputs in (127, 169, 383)}
    return {inputs: {name: tuple(a.shape) for name, a in state.items()} for inputs, state in found.items()}


def main() -> None:
    torch.set_grad_enabled(False)
    arrays: dict[str, np.ndarray] = {}
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    ad_nerf(arrays, shapes)
    dfrf(arrays, shapes)
    assert max(PICTURES) + 4 <= FRAMES
    texts = {"shapes": np.array(json.dumps(shapes)), "published": np.array(json.dumps(published()))}
    np.savez_compressed(OUT, **texts, **arrays)
    print(f"{OUT}: {OUT.stat().st_size} bytes, {len(arrays)} arrays")


if __name__ == "__main__":
    main()
