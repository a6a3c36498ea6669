"""Tests a trained run by a protocol and writes WORKDIR/eval/PROTOCOL/: results.json, index.html, pictures, a video.

uv run eval.py --workdir=runs/anna --protocol=self
uv run eval.py --workdir=runs/anna --protocol=self --max_frames=0      (every test frame: lip sync, blinks, jitter)
uv run eval.py --workdir=runs/base --protocol=fewshot --seconds=3,5,10 --steps=1000,5000 --from_scratch
uv run eval.py --workdir=runs/base --protocol=heldout --clips=clips/manifest.json
uv run eval.py --workdir=runs/base --protocol=cross --speech=french.wav
uv run eval.py --workdir=runs/base --protocol=flip | reconstruct
"""

from absl import app, flags

from jaxtalk.errors import JaxtalkError, reported_errors
from jaxtalk.flags import parse_flags
from jaxtalk.progress import quiet_libraries

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run; nothing else is needed.")
_PROTOCOL = flags.DEFINE_string("protocol", "self", "self, fewshot, heldout, cross, flip, or reconstruct.")
_METRICS = flags.DEFINE_list("metrics", None, "Ids of metrics. Default: all that this machine has what they need for.")
_MAX_FRAMES = flags.DEFINE_integer(
    "max_frames", None, "Test frames of each clip, evenly spaced; 0: all. Default: the run's config."
)
_VIDEO_SECONDS = flags.DEFINE_float("video_seconds", 8.0, "Length of the comparison video of each clip; 0: none.")
_POSE = flags.DEFINE_enum("pose", "gt", ["gt", "predicted"], "Poses of the frames: tracked, or predicted from speech.")
_CLIPS = flags.DEFINE_list("clips", None, "Folders of clips of people that the run was not trained on, or manifests.")
_ALLOW_SEEN = flags.DEFINE_bool("allow_seen", None, "Let --clips name people that the run knows; the results say so.")
_SOURCE_SECONDS = flags.DEFINE_float(
    "source_seconds", None, "Of a stranger's clip, to make the avatar of; 0: its first frame. Default: the config."
)
_SPEECH = flags.DEFINE_list("speech", None, "cross: recordings to say. Default: what other clips' people say.")
_SECONDS = flags.DEFINE_list("seconds", None, "fewshot: lengths of video to adapt to. Default: the run's config.")
_STEPS = flags.DEFINE_list("steps", None, "fewshot: numbers of steps; 0: the base model as it is. Default: the config.")
_FROM_SCRATCH = flags.DEFINE_bool("from_scratch", None, "fewshot: the same steps without base training, too.")
_FRESH = flags.DEFINE_bool("fresh", None, "fewshot: adapt anew what an earlier evaluation of this run has adapted.")


def main(_: list[str]) -> None:
    quiet_libraries()
    with reported_errors():
        if not _WORKDIR.value:
            raise JaxtalkError("--workdir is missing: name the folder of a run, e.g. --workdir=runs/demo")
        fewshot = _fewshot()
        from jaxtalk.evaluation import runner

        runner.evaluate_and_print(
            _WORKDIR.value,
            _PROTOCOL.value,
            metrics=_METRICS.value,
            max_frames=_MAX_FRAMES.value,
            video_seconds=_VIDEO_SECONDS.value,
            pose=_POSE.value,
            clips=_CLIPS.value,
            allow_seen=_ALLOW_SEEN.value,
            source_seconds=_SOURCE_SECONDS.value,
            speech=_SPEECH.value,
            fewshot=fewshot,
        )


def _fewshot() -> dict[str, object]:
    """The flags of the few-shot protocol that were given."""
    given: dict[str, object] = {
        "seconds": _numbers(_SECONDS, float),
        "steps": _numbers(_STEPS, int),
        "from_scratch": _FROM_SCRATCH.value,
        "fresh": _FRESH.value,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if given and _PROTOCOL.value != "fewshot":
        raise JaxtalkError(f"--{next(iter(given))} belongs to --protocol=fewshot; add it, or leave the flag out")
    return given


def _numbers(flag: flags.FlagHolder, kind: type) -> list | None:
    try:
        return None if flag.value is None else [kind(text) for text in flag.value]
    except ValueError as error:
        raise JaxtalkError(f"--{flag.name}: {','.join(flag.value)!r} is no list of numbers, e.g. 3,5,10") from error


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
