"""The command line: every verb explains itself, hands its options over, and ends with the exit code it promises."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from jaxtalk import cli
from jaxtalk.errors import JaxtalkError

VERBS = (
    *("prepare", "import-checkpoint", "synthetic", "pack", "synthesize", "verify", "bench", "weights", "compare"),
    *("sync-offsets", "heat-maps"),
)


def _call(*words: str) -> Result:
    return CliRunner().invoke(cli.main, words, prog_name="jaxtalk")


def _stand_in(monkeypatch: pytest.MonkeyPatch, module: str, **members: Any) -> None:
    """Puts a module with these members where a verb will import it from."""
    stand_in = types.ModuleType(module)
    vars(stand_in).update(members)
    monkeypatch.setitem(sys.modules, module, stand_in)


def test_every_verb_is_known() -> None:
    assert set(cli.main.commands) == set(VERBS)


_WEIGHTS = [("weights", word) for word in ("get", "list", "convert", "check")]


@pytest.mark.parametrize("words", [*((verb,) for verb in VERBS), *_WEIGHTS], ids=" ".join)
def test_help_explains_and_shows_an_example(words: tuple[str, ...]) -> None:
    result = _call(*words, "--help")
    assert result.exit_code == 0 and result.output.startswith("Usage: jaxtalk " + " ".join(words))
    if words != ("weights",):
        assert f"Examples:\n  jaxtalk {' '.join(words)}" in result.output


def test_every_option_is_explained_or_obvious() -> None:
    for name, command in cli.main.commands.items():
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help or option.show_default, f"{name}: {option.opts}"


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; sys.argv = ['jaxtalk', '--help']\n"
        "from jaxtalk.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'flax', 'numpy', 'av', 'scipy', 'librosa', 'tensorflow_datasets', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert time.monotonic() - started < 5  # half a second on a quiet machine


def test_version() -> None:
    assert importlib.metadata.version("jaxtalk") in _call("--version").output


@pytest.mark.parametrize(
    "words",
    [
        ("dance",),
        ("synthesize",),
        ("synthesize", "--workdir", "run", "--audio", "a.wav", "--out", "b.mp4", "--volume", "11"),
        ("prepare", "a.mp4"),
        ("prepare", "--out", "b"),
        ("prepare", "a.mp4", "--out", "b", "--jobs", "2"),
        ("prepare", "a.mp4", "--out", "b", "--dataset", "hdtf", "--root", "c"),
        ("prepare", "--out", "b", "--dataset", "mead"),
        ("prepare", "a.mp4", "b.mp4", "--out", "c"),
        ("prepare", "--features", "wav2vec2"),
        ("prepare", "clip", "--features", "deepspeech"),
        ("prepare", "a.mp4", "--out", "b", "--face-model", "clay"),
        ("weights", "get"),
    ],
)
def test_wrong_words_exit_with_2(words: tuple[str, ...]) -> None:
    result = _call(*words)
    assert result.exit_code == 2 and "Error" in result.stderr


def test_a_users_error_is_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise JaxtalkError("talk.mp4: no face in any frame; film one")

    _stand_in(monkeypatch, "jaxtalk.synthesis", synthesize=refuse)
    result = _call("synthesize", "--workdir", "run", "--audio", "a.wav", "--out", str(tmp_path / "b.mp4"))
    assert result.exit_code == 2
    assert result.stderr == "error: talk.mp4: no face in any frame; film one\n"


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    _stand_in(monkeypatch, "jaxtalk.synthesis", synthesize=fail)
    result = _call("synthesize", "--workdir", "run", "--audio", "a.wav", "--out", "b.mp4")
    assert isinstance(result.exception, ZeroDivisionError)


def test_synthesize_hands_its_options_over(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def synthesize(*arguments: Any, **options: Any) -> types.SimpleNamespace:
        calls.append((arguments, options))
        return types.SimpleNamespace(path=Path("b.mp4"), frames=75, seconds=3.0, render_fps=12.34)

    _stand_in(monkeypatch, "jaxtalk.synthesis", synthesize=synthesize)
    words = "synthesize --workdir run --audio a.mp3 --out b.mp4 --identity anna --pose clips/eva --frames-dir f"
    result = _call(*words.split())
    assert result.exit_code == 0 and "75 frames" in result.output and "12.3 frames/s" in result.output
    given = (Path("run"), Path("a.mp3"), Path("b.mp4"))
    others = ("avatar", "image", "pose_from", "orbit", "frames_dir", "features", "models")
    nothing = dict.fromkeys(others) | {"pose": "hold"}
    assert calls == [(given, nothing | {"avatar": "anna", "pose": "clips/eva", "frames_dir": Path("f")})]
    more = "--source_image face.png --orbit 15 --pose-from clips/eva"
    assert _call(*words.split()[:7], *more.split()).exit_code == 0
    assert calls[1] == (given, nothing | {"image": Path("face.png"), "orbit": 15.0, "pose_from": Path("clips/eva")})


def test_models_of_a_picture_belong_to_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxtalk.synthesis import PictureModels

    calls: list[Any] = []
    done = types.SimpleNamespace(path="", frames=1, seconds=1.0, render_fps=1.0)
    monkeypatch.setattr("jaxtalk.synthesis.synthesize", lambda *_, **options: calls.append(options) or done)
    words = "synthesize --workdir run --audio a.wav --out b.mp4 --face-model procedural --landmarker l.task"
    result = _call(*words.split())
    assert result.exit_code == 2 and "belong to --image" in result.stderr and not calls
    assert _call(*words.split(), "--image", "face.png").exit_code == 0
    assert calls[0]["models"] == PictureModels(Path("l.task"), "procedural", None)


def test_words_of_other_systems_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    result = types.SimpleNamespace(path="", frames=1, seconds=1.0, render_fps=1.0)
    _stand_in(monkeypatch, "jaxtalk.synthesis", synthesize=lambda *words, **_: calls.append(words) or result)
    for words in (
        "--workspace run --aud a.wav --out b.mp4",
        "--workdir run --driven_audio a.wav --outfile b.mp4",
    ):
        assert _call("synthesize", *words.split()).exit_code == 0
    assert calls == [(Path("run"), Path("a.wav"), Path("b.mp4"))] * 2


def test_prepare_hands_its_options_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Against the real record of options, so that a renamed one is noticed here."""
    prepare = pytest.importorskip("jaxtalk.preparation.prepare")
    calls: list[Any] = []

    def prepare_clip(video: Path, out: Path, options: Any) -> types.SimpleNamespace:
        calls.append((video, out, options))
        return types.SimpleNamespace(path=out, meta=types.SimpleNamespace(num_frames=9, identity="anna", fps=25.0))

    monkeypatch.setattr(prepare, "prepare_clip", prepare_clip)
    (tmp_path / "consent.json").write_text(json.dumps({"subject": "Anna"}))
    words = f"prepare talk.mp4 --out clips/anna --identity anna --size 256 --consent {tmp_path / 'consent.json'}"
    assert _call(*words.split(), "--overwrite", "--end", "3.5", "--features", "wav2vec2").exit_code == 0
    video, out, options = calls[0]
    assert (video, out) == (Path("talk.mp4"), Path("clips/anna"))
    chosen = {"identity": "anna", "size": 256, "overwrite": True, "end": 3.5, "features": ("wav2vec2",)}
    expected = prepare.PrepareOptions(**chosen, consent={"subject": "Anna"})
    assert options == expected
    others = {"videos", "source", "out", *cli.prepare._OF_COLLECTIONS}
    verb = {option.name for option in cli.main.commands["prepare"].params} - others
    assert verb == {field.name for field in dataclasses.fields(prepare.PrepareOptions)}


@pytest.mark.parametrize(("content", "reason"), [(None, "cannot be read"), ("{", "not JSON"), ("[1]", "an object")])
def test_a_broken_consent_file_is_named(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "consent.json"
    if content is not None:
        path.write_text(content)
    result = _call("prepare", "talk.mp4", "--out", "x", "--consent", str(path))
    assert result.exit_code == 2 and str(path) in result.stderr and reason in result.stderr


def test_verify_exit_codes(tmp_path: Path) -> None:
    from tests.test_synthesis_provenance import write_video

    ours, foreign = tmp_path / "ours.mp4", tmp_path / "film.mp4"
    write_video(ours, {"synthetic": True})
    foreign.write_bytes(b"some other file")
    assert _call("verify", str(ours)).exit_code == 0
    result = _call("verify", str(foreign))
    assert result.exit_code == 1 and "no provenance found" in result.output
    ours.write_bytes(ours.read_bytes() + b"!")
    result = _call("verify", str(ours))
    assert result.exit_code == 1 and "CHANGED" in result.output
    result = _call("verify", str(tmp_path / "missing.mp4"))
    assert result.exit_code == 2 and "no such file" in result.stderr


def test_weights_list_and_an_unknown_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    output = _call("weights", "list").output
    assert "face_landmarker" in output and "ict_facekit" in output and "MIT" in output
    result = _call("weights", "get", "bfm")
    assert result.exit_code == 2 and "known are" in result.stderr
    (tmp_path / "mine.task").write_bytes(b"not the landmarker")
    result = _call("weights", "get", "face_landmarker", "--from", str(tmp_path / "mine.task"))
    assert result.exit_code == 2 and "not the published" in result.stderr


def test_pack_and_synthetic_make_what_they_say(tmp_path: Path) -> None:
    from tests.fake_clip import write_fake_clip

    paths = [str(write_fake_clip(tmp_path / name, seconds=0.4, identity=name).path) for name in ("anna", "eva")]
    result = _call("pack", *paths, "--out", str(tmp_path / "dataset"), "--held-out", "eva")
    assert result.exit_code == 0, result.output
    from jaxtalk.datasets import open_packed, read_manifest

    assert [clip.name for clip in open_packed(tmp_path / "dataset", "train")] == ["anna"]
    manifest = tmp_path / "manifest.json"
    read_manifest(tmp_path / "dataset").save(manifest)
    result = _call("pack", *paths, str(manifest), "--out", str(tmp_path / "again"), "--manifest", str(manifest))
    assert result.exit_code == 0 and "2 clips" in result.output
    assert [clip.name for clip in open_packed(tmp_path / "again", "test")] == ["eva"]
    result = _call("pack", *paths, "--out", str(tmp_path / "both"), "--manifest", str(manifest), "--held-out", "eva")
    assert result.exit_code == 2 and "leave --held-out away" in result.stderr
    words = f"synthetic --out {tmp_path / 'people'} --identities 2 --utterances 1 --seconds 0.2 --size 32 --processes 1"
    result = _call(*words.split())
    assert result.exit_code == 0 and "2 clips" in result.output
    assert len(list((tmp_path / "people").glob("*/clip.json"))) == 2
    result = _call("pack", str(tmp_path / "nothing"), "--out", str(tmp_path / "d2"))
    assert result.exit_code == 2 and "no clip here" in result.stderr
