"""The demo: a synthetic speaker learnt from half a minute of video, tested on seconds never seen, and made to talk.

    uv run train.py --config=configs/demo.py --workdir=runs/demo          (minutes on two CPU cores)
    uv run train.py --config=configs/demo.py:smoke --workdir=runs/smoke   (the same path, in a hurry)

The voice of another synthetic speaker tests whether speech matters, and the words of the sample video are new.
"""

import ml_collections

from configs import ad_nerf


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The config of the demo, or of its shortened form `smoke`."""
    if variant not in ("", "smoke"):
        raise ValueError(f"configs/demo.py has no variant {variant!r}; there is only smoke")
    config = ad_nerf.get_config("tiny,steps=300,size=32" if variant else "tiny,steps=4000,size=128")
    with config.unlocked():
        config.synthetic.identities = 1
        config.synthetic.seconds = 8.0 if variant else 30.0
        config.synthetic.size = 64 if variant else 256
        config.data.test_seconds = 2.0 if variant else 6.0
        config.data.guard_seconds = 1.0
        config.evaluation.protocols = ("self",)
        config.samples.babble_seconds = 2.0 if variant else 6.0
    return config.lock()
