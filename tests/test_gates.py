"""The gates of a real clip: a right AD-NeRF passes them all, and each of three broken ones fails at its own.

Minutes of training: run with `pytest -m slow`. Gates in dB on the last ten seconds at 64 x 64 after 2,000 steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from configs import ad_nerf
from jaxtalk import experiment
from jaxtalk.clip import Clip, Track, write_image
from jaxtalk.evaluation.runner import evaluate
from jaxtalk.preparation.prepare import PrepareOptions, prepare_clip

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(3600)]


def failed_gates(results: dict[str, Any]) -> set[str]:
    """Names of the gates that an evaluation fails: face, mouth, frame (against baselines) and speech."""

    def gain(row: str, region: str) -> dict[str, float]:
        return results["paired"][row]["psnr/rgb"][region]

    late = gain("audio_shifted", "mouth")
    passed = {
        "face": gain("nearest", "face")["mean"] >= 0.8 and gain("mean", "face")["mean"] >= 4.0,
        "mouth": gain("mean", "mouth")["mean"] >= 3.0,
        "frame": gain("mean", "frame")["mean"] >= 2.5,
        "speech": late["mean"] >= max(0.4, 2 * late["standard_error"]),
    }
    return {name for name, good in passed.items() if not good}


@pytest.fixture(scope="module")
def prepared(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    options = PrepareOptions(
        landmarker=real_data / "models" / "face_landmarker.task",
        face_model_file=real_data / "morphable" / "ict_facekit_light.npz",
    )
    return prepare_clip(real_data / "clips" / "en_dfrf_cnn2.mp4", tmp_path_factory.mktemp("gates") / "clip", options)


def _silence(folder: Path) -> None:
    """Training and test hear nothing; the model can only ignore speech."""
    samples, rate = soundfile.read(folder / "audio.wav")
    (folder / "audio.wav").unlink()
    soundfile.write(folder / "audio.wav", np.zeros_like(samples), rate, subtype="PCM_16")


def _transpose_rotation(folder: Path) -> None:
    arrays = Track.load(folder / "track.npz").arrays()
    arrays["rotation"] = arrays["rotation"].swapaxes(1, 2)
    (folder / "track.npz").unlink()
    Track(**arrays).save(folder / "track.npz")


def _grey_background(folder: Path) -> None:
    plate = Clip.open(folder).background()
    (folder / "background.png").unlink()
    write_image(folder / "background.png", np.full_like(plate, 128))


def _results(clip: Path, workdir: Path) -> dict[str, Any]:
    config = ad_nerf.get_config(f"tiny,clip={clip}")
    experiment.train(config, workdir)
    return evaluate(workdir, "self", video_seconds=0)


def test_a_right_model_passes_every_gate(prepared: Clip, tmp_path: Path) -> None:
    assert failed_gates(_results(prepared.path, tmp_path)) == set()


@pytest.mark.parametrize(
    ("break_clip", "gate"), [(_silence, "speech"), (_transpose_rotation, "face"), (_grey_background, "frame")]
)
def test_a_broken_one_fails_its_gate(
    prepared: Clip, tmp_path: Path, break_clip: Callable[[Path], None], gate: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(prepared.path, broken)
    break_clip(broken)
    assert gate in failed_gates(_results(broken, tmp_path / "run"))
