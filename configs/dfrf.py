"""DFRF, the baseline of GDRF: features of the references pulled into place point by point, speech as one code.

    uv run train.py --config=configs/dfrf.py:tiny,clip=CLIP,clip=CLIP,held_out=NAME --workdir=runs/dfrf
    uv run eval.py --workdir=runs/dfrf --protocol=fewshot --seconds=5 --steps=0,200,1000
    uv run train.py --config=configs/dfrf.py:paper,clip=CLIP,... --workdir=runs/dfrf_paper

`paper` is the reference code's (card gdrf A.2): 512 x 512, 850 rays, 64 + 128 samples, 600,000 steps; it was never run
to its end by us. `tiny` is `gdrf.py:tiny` with DFRF's ears and warping, for two CPU cores. Arguments as in gdrf.py.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from configs import gdrf
from jaxtalk.few_shot.config import ModelConfig, ReferenceConfig, StageConfig, StagesConfig


def get_config(arg: str = "tiny") -> ml_collections.ConfigDict:
    """The locked config of `VARIANT[,key=value...]`. Raises `JaxtalkError` for an unknown variant or key."""
    return gdrf.build("dfrf", VARIANTS, arg)


def paper() -> tuple[ModelConfig, StagesConfig]:
    """The reference code's sizes."""
    references = ReferenceConfig(encoder="dfrf_conv", warp="dfrf_point", project=False)
    field = StageConfig(steps=600_000, rays_per_frame=850, learning_rate=5e-4)
    return ModelConfig(motion="audio64", mapping=0, references=references), StagesConfig(field=field)


def tiny() -> tuple[ModelConfig, StagesConfig]:
    """GDRF's small networks under DFRF's audio code and point warping."""
    model, stages = gdrf.tiny()
    references = dataclasses.replace(model.references, warp="dfrf_point")
    return dataclasses.replace(model, motion="audio64", mapping=0, references=references), stages


VARIANTS = {"tiny": tiny, "paper": paper}
