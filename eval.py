"""Tests a trained run by a protocol and writes WORKDIR/eval/PROTOCOL/: results.json, index.html, pictures, a video.

uv run eval.py --workdir=runs/anna --protocol=self
uv run eval.py --workdir=runs/anna --protocol=self --max_frames=0      (every test frame)
"""

from absl import app, flags

from jaxtalk.errors import JaxtalkError, reported_errors
from jaxtalk.flags import parse_flags
from jaxtalk.progress import quiet_libraries

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run; nothing else is needed.")
_PROTOCOL = flags.DEFINE_string("protocol", "self", "Which protocol: self.")
_MAX_FRAMES = flags.DEFINE_integer(
    "max_frames", None, "Test frames of each clip, evenly spaced; 0: all. Default: the run's config."
)
_VIDEO_SECONDS = flags.DEFINE_float("video_seconds", 8.0, "Length of the comparison video of each clip; 0: none.")


def main(_: list[str]) -> None:
    quiet_libraries()
    with reported_errors():
        if not _WORKDIR.value:
            raise JaxtalkError("--workdir is missing: name the folder of a run, e.g. --workdir=runs/demo")
        from jaxtalk.evaluation import runner

        runner.evaluate_and_print(
            _WORKDIR.value, _PROTOCOL.value, max_frames=_MAX_FRAMES.value, video_seconds=_VIDEO_SECONDS.value
        )


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
