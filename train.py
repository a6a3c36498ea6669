"""Trains what a config says, evaluates it, and writes sample videos and a report.

uv run train.py --config=configs/demo.py --workdir=runs/demo
uv run train.py --config=configs/ad_nerf.py:tiny --config.data.clips="('clips/anna',)" --workdir=runs/anna
uv run train.py --config=configs/ad_nerf.py:paper --dry_run      (parameters, memory and FLOPs; trains nothing)
"""

from absl import app, flags
from ml_collections import config_flags

from jaxtalk.errors import JaxtalkError, reported_errors
from jaxtalk.flags import parse_flags
from jaxtalk.progress import quiet_libraries

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings: configs/NAME.py[:VARIANT].", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: made, or resumed where it stopped.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Compile from shapes alone, print parameters, memory and FLOPs, exit.")


def main(_: list[str]) -> None:
    quiet_libraries()
    with reported_errors():
        from jaxtalk import experiment

        if _CONFIG.value is None:
            raise JaxtalkError("--config is missing: name the settings, e.g. --config=configs/demo.py")
        if _DRY_RUN.value:
            experiment.dry_run(_CONFIG.value)
        elif not _WORKDIR.value:
            raise JaxtalkError("--workdir is missing: name the folder for the run, e.g. --workdir=runs/demo")
        else:
            experiment.run(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
