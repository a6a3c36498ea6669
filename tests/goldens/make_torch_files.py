"""Makes torch_files.npz: checkpoints as torch writes them, byte by byte, and the values that are in them.

Needs torch, which the project does not: run it in an environment of its own.
"""

from __future__ import annotations

import collections
import io
from pathlib import Path

import numpy as np
import torch


def tree() -> dict[str, object]:
    base = torch.arange(24, dtype=torch.float32) / 8
    net = collections.OrderedDict(
        plain=base.clone().reshape(2, 3, 4),
        transposed=base.clone().reshape(4, 6).t(),
        slice=base[5:17].reshape(3, 4)[:, 1:3],
        tail=base[20:],
        half=base[:7].half(),
        bfloat16=base[:7].bfloat16(),
        double=base[:3].double(),
        integers=torch.arange(-3, 3),
        small_integers=torch.arange(-3, 3, dtype=torch.int16),
        bytes=torch.arange(6, dtype=torch.uint8),
        flags=torch.tensor([True, False, True]),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(base[:6].clone().reshape(2, 3)),
    )
    net._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    extra = {"array": np.arange(6.0).reshape(2, 3), "number": np.float32(1.5), "size": torch.Size([2, 3])}
    schedule = {"milestones": collections.Counter({3: 1}), "losses": collections.defaultdict(float, {"l1": 0.5})}
    return {"net": net, "epoch": 49, "names": ["a", "b"], "extra": extra, "schedule": schedule, "none": None}


def saved(thing: object, new: bool) -> np.ndarray:
    file = io.BytesIO()
    torch.save(thing, file, _use_new_zipfile_serialization=new)
    return np.frombuffer(file.getvalue(), np.uint8)


def main() -> None:
    thing = tree()
    values = {f"net/{name}": tensor.detach() for name, tensor in thing["net"].items()}  # type: ignore[attr-defined]
    values = {name: (v.float() if v.dtype == torch.bfloat16 else v).numpy() for name, v in values.items()}
    module = saved(torch.nn.Linear(2, 2), new=True)
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    np.savez_compressed(
        Path(__file__).with_name("torch_files.npz"),
        zip=saved(thing, new=True),
        legacy=saved(thing, new=False),
        module=module,
        script=np.frombuffer(script.getvalue(), np.uint8),
        **values,
    )


if __name__ == "__main__":
    main()
