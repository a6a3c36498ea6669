"""One experiment from its config to its report: clips, training, avatars, evaluation, sample videos, the page."""

from __future__ import annotations

from pathlib import Path

import jax
import ml_collections
import soundfile

from jaxtalk.clip import Clip
from jaxtalk.methods.api import load_method
from jaxtalk.progress import console


def run(config: ml_collections.ConfigDict, workdir: str | Path) -> Path:
    """Does everything that the config asks for and returns the report page.

    Stages that are finished are not trained again; evaluation, videos and the page are made anew. Several processes
    train together; the first one alone evaluates, renders and writes the page.
    Raises `JaxtalkError` for input or settings that the user can mend.
    """
    from jaxtalk.evaluation.report import write_run_report
    from jaxtalk.evaluation.runner import evaluate
    from jaxtalk.training import distributed

    workdir = Path(workdir)
    page = workdir / "report" / "index.html"
    distributed.initialize()
    config = _with_synthetic_speakers(config, workdir)
    train(config, workdir)
    if jax.process_index() > 0:
        return page
    for protocol in config.evaluation.protocols:
        evaluate(workdir, protocol)
    samples = _sample_videos(config, workdir)
    write_run_report(workdir, samples)
    for path in (page, *samples):
        console.print(f"[bold]wrote[/] {path}", highlight=False, soft_wrap=True)
    return page


def train(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Opens the clips, leaves their test parts out, and trains every stage of the system."""
    from jaxtalk.input.clips import open_clips, training_part
    from jaxtalk.training.run import train_stages

    clips = [training_part(clip, config.data) for clip in open_clips(config, workdir)]
    train_stages(config, workdir, clips, load_method(config.method).stages(config))


def dry_run(config: ml_collections.ConfigDict) -> None:
    """Builds every stage from shapes alone and prints parameters, memory per device and FLOPs per step."""
    from jaxtalk.training.dry_run import dry_run

    dry_run(config, load_method(config.method).stages(config))


def _with_synthetic_speakers(config: ml_collections.ConfigDict, workdir: Path) -> ml_collections.ConfigDict:
    """Makes the speakers of `config.synthetic` and returns a config whose `data.clips` holds them too, and whose
    `data.held_out` names the last `synthetic.held_out` of them."""
    wanted = config.synthetic
    if not wanted.identities:
        return config
    from jaxtalk.synthetic.corpus import write_corpus
    from jaxtalk.training import sharding

    if jax.process_index() > 0:  # the first process makes them, the others find them there
        sharding.barrier("speakers made")
    folders = write_corpus(
        workdir / "synthetic",
        identities=wanted.identities,
        utterances_per_identity=wanted.utterances,
        seconds=wanted.seconds,
        size=wanted.size,
        seed=wanted.seed,
    )
    if jax.process_index() == 0:
        sharding.barrier("speakers made")
    config = config.copy_and_resolve_references()
    config.data.clips = (*config.data.clips, *map(str, folders))
    persons = list(dict.fromkeys(Clip.open(folder).meta.identity for folder in folders))
    config.data.held_out = (*config.data.held_out, *persons[len(persons) - wanted.held_out :])
    return config


def _sample_videos(config: ml_collections.ConfigDict, workdir: Path) -> list[Path]:
    """Lets an avatar say every recording of `config.samples`, and a synthetic utterance when asked for."""
    from jaxtalk.synthesis import synthesize

    speaker = config.samples.avatar or next(iter(config.data.held_out), None)
    folder = workdir / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    speech = [Path(path) for path in config.samples.audio]
    if config.samples.babble_seconds > 0:
        speech.append(_babble(folder / "babble.wav", config.samples.babble_seconds, config.seed))
    videos = []
    for audio in speech:
        videos.append(folder / f"{audio.stem}.mp4")
        synthesize(workdir, audio, videos[-1], avatar=speaker, pose=config.samples.pose)
    return videos


def _babble(path: Path, seconds: float, seed: int) -> Path:
    """Speech that no clip of the run contains: another voice and other words than any speaker's."""
    from jaxtalk.synthetic.voice import speak

    speech = speak(utterance_seed=10_000 + seed, speaker_seed=10_000 + seed, seconds=seconds)
    soundfile.write(path, speech.samples, speech.rate)
    return path
