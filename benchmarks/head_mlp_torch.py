"""The twin of head_mlp.py in PyTorch, which is never a dependency: run it in an environment that has torch.

python benchmarks/head_mlp_torch.py --out benchmarks/head_mlp.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

EVALUATIONS = 65_536


class Head(nn.Module):
    """AD-NeRF's head network: 8 x 256 with the input again after layer 4, density, and a view branch of 3 x 128."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.ModuleList(nn.Linear(127 if i == 0 else 383 if i == 5 else 256, 256) for i in range(8))
        self.density = nn.Linear(256, 1)
        self.branch = nn.ModuleList(nn.Linear(283 if i == 0 else 128, 128) for i in range(3))
        self.color = nn.Linear(128, 3)

    def forward(self, x: torch.Tensor, view: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = x
        for index, layer in enumerate(self.trunk):
            hidden = torch.relu(layer(hidden))
            if index == 4:
                hidden = torch.cat([x, hidden], -1)
        density = self.density(hidden)
        hidden = torch.cat([hidden, view], -1)
        for layer in self.branch:
            hidden = torch.relu(layer(hidden))
        return density, self.color(hidden)


def seconds_per_call(call: Callable[[], object], repeats: int) -> float:
    """Median time of `repeats` calls after a first one."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(repeats: int) -> dict[str, object]:
    """Evaluations/s of one training step and of the forward pass alone, float32."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    head = Head().to(device)
    assert sum(p.numel() for p in head.parameters()) == 595_844
    x, view, target = (torch.randn(EVALUATIONS, size, device=device) for size in (127, 27, 4))
    adam = torch.optim.Adam(head.parameters(), lr=5e-4)

    def train() -> None:
        density, color = head(x, view)
        loss = ((density[:, 0] - target[:, 0]) ** 2).mean() + ((color - target[:, 1:]) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    def inference() -> None:
        with torch.no_grad():
            head(x, view)

    forward = seconds_per_call(inference, repeats)
    training = seconds_per_call(train, repeats)
    return {
        "framework": f"torch {torch.__version__}",
        "device": device,
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "dtype": "float32",
        "evaluations": EVALUATIONS,
        "training_evaluations_per_s": round(EVALUATIONS / training),
        "inference_evaluations_per_s": round(EVALUATIONS / forward),
        "repeats": repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = measure(options.repeats)
    print(json.dumps(result, indent=1))
    if options.out is not None:
        data = json.loads(options.out.read_text()) if options.out.is_file() else {}
        options.out.write_text(json.dumps(data | {f"torch_{result['device']}_float32": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
