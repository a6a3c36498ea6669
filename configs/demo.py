"""The demo: synthetic speakers learnt, an unseen one met for seconds, tested, and made to say new words.

    uv run train.py --config=configs/demo.py --workdir=runs/demo          (minutes on two CPU cores)
    uv run train.py --config=configs/demo.py:smoke --workdir=runs/smoke   (the same path, in a hurry)

GDRF (`configs/gdrf.py:tiny`): a base model of several people, adapted to the first seconds of a person that it has
never seen, beside the same steps from scratch; the rest of that person's video is the test. In 5 min 46 s on two cores
that gave PSNR 27.4 / 26.0 / 25.3 dB (frame, face, mouth); from scratch 26.7 / 25.0 / 24.5, the frame of the nearest
pose 23.4 / 21.0 / 19.5; late speech cost the mouth 1.9 dB.
"""

import ml_collections

from configs import gdrf


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The config of the demo, or of its shortened form `smoke`."""
    if variant not in ("", "smoke"):
        raise ValueError(f"configs/demo.py has no variant {variant!r}; there is only smoke")
    smoke = bool(variant)
    size, base, speech, adapt = (32, 40, 60, 20) if smoke else (64, 450, 300, 200)
    config = gdrf.get_config(
        f"tiny,face_model=procedural,size={size},steps={base},stages.audio.steps={speech},stages.adapt.steps={adapt}"
    )
    with config.unlocked():
        config.synthetic.update(
            identities=3 if smoke else 6,
            held_out=1,
            seconds=4.0 if smoke else 10.0,
            size=64,
        )
        config.data.guard_seconds = 0.5
        config.evaluation.protocols = ("fewshot",)
        config.evaluation.fewshot.update(seconds=(2.0,) if smoke else (4.0,), steps=(0, adapt), from_scratch=not smoke)
        config.samples.babble_seconds = 2.0 if smoke else 6.0
    return config.lock()
