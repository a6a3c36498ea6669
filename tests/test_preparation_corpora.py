"""Collections of videos: their real layouts, what fails beside what is prepared, and the manifests that come of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from jaxtalk import cli
from jaxtalk.clip import Clip
from jaxtalk.datasets import Manifest, open_packed, pack
from jaxtalk.datasets.prepared import prepare_dataset, write_manifest
from jaxtalk.datasets.published_splits import SPLITS, held_out, published_split
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation.corpora import hdtf, run
from jaxtalk.preparation.corpora.corpus import Corpus, Item
from jaxtalk.preparation.corpora.layouts import read_corpus
from jaxtalk.preparation.corpora.workers import Died
from jaxtalk.preparation.job import PrepareOptions
from tests.fake_clip import write_fake_clip
from tests.test_preparation_decode import RATE, write_video


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


# --- layouts


def test_hdtf_names_tell_who_speaks(tmp_path: Path) -> None:
    names = ["WDA_AmyKlobuchar0_000", "WDA_AmyKlobuchar1_003", "WRA_BobCorker_000", "RD_Radio11_001"]
    names.append("WDA_LucilleRoybal-Allard_000")
    _touch(tmp_path, *(f"{name}.mp4" for name in names), "holiday.mp4", "WDA_KatieHill_000.txt", "_videos_raw/A.mp4")
    corpus = read_corpus("hdtf", tmp_path)
    assert {item.name: item.identity for item in corpus.items} == {
        "WDA_AmyKlobuchar0_000": "AmyKlobuchar",
        "WDA_AmyKlobuchar1_003": "AmyKlobuchar",
        "WRA_BobCorker_000": "BobCorker",
        "RD_Radio11_001": "Radio11",
        "WDA_LucilleRoybal-Allard_000": "LucilleRoybal-Allard",
    }
    assert {item.language for item in corpus.items} == {"en"} and corpus.remarks == ()
    assert corpus.items[0].video == tmp_path / "RD_Radio11_001.mp4"


def test_hdtf_tables_tell_what_is_missing(tmp_path: Path) -> None:
    _touch(tmp_path, "WDA_Ann_000.mp4", "WDA_Ben1_001.mp4")
    tables = tmp_path / "HDTF_dataset"
    tables.mkdir()
    # As in the real tables: a byte order mark, spaces at the end, crops whose numbers are not those of the clips.
    (tables / "WDA_crop_wh.txt").write_text("\ufeffAnn_0.mp4 608 726 0 726\nBen1_0.mp4 1 2 0 2 \nBen1_2.mp4 1 2 0 2\n")
    (tables / "RD_crop_wh.txt").write_text("Radio10_0.mp4 483 390 0 390\n")
    assert hdtf.expected_clips(tables) == ["RD_Radio10_000", "WDA_Ann_000", "WDA_Ben1_000", "WDA_Ben1_001"]
    for corpus in (read_corpus("hdtf", tmp_path), read_corpus("hdtf", tmp_path, tables=tables)):
        (remark,) = corpus.remarks
        assert remark.startswith("2 of the 4 clips") and "RD_Radio10_000, WDA_Ben1_000" in remark
    _touch(tmp_path, "WDA_Zoe_000.mp4")
    assert "1 clips in" in read_corpus("hdtf", tmp_path).remarks[1]
    (tables / "RD_crop_wh.txt").write_text("Radio10_0.mp4 483 390\n")
    with pytest.raises(JaxtalkError, match=r"RD_crop_wh\.txt: line 1 is no crop"):
        read_corpus("hdtf", tmp_path)
    with pytest.raises(JaxtalkError, match="no tables of HDTF"):
        read_corpus("hdtf", tmp_path, tables=tmp_path / "elsewhere")


def test_the_real_tables_describe_all_clips(real_data: Path) -> None:
    clips = hdtf.expected_clips(real_data / "meta" / "hdtf_tables")
    assert len(clips) == len(set(clips)) == 64 + 189 + 168
    assert {"WDA_KatieHill_000", "RD_Radio11_001", "WDA_LucilleRoybal-Allard_000"} <= set(clips)
    videos = {name.rsplit("_", 1)[0].split("_", 1)[1] for name in clips}
    persons = {hdtf.person(*name.rsplit("_", 1)[0].split("_", 1)) for name in clips}
    assert all(pair[0] in persons and pair[1] in persons for pair in hdtf.SAME_PERSON)
    assert len(persons) < len(videos) and not any(p[-1].isdigit() for p in persons if not p.startswith("Radio"))


def _mead(root: Path) -> Path:
    for number in range(1, 13):
        _touch(root, f"M003/video/front/neutral/level_1/{number:03d}.mp4")
    for level in (1, 2):
        for number in range(1, 9):
            _touch(root, f"M003/video/front/angry/level_{level}/{number:03d}.mp4")
    _touch(root, "M003/audio/angry/level_2/003.m4a", "M003/video/left_30/angry/level_2/003.mp4", "W009/video.tar")
    _touch(root, "M003/video/front/angry/level_2/.003.mp4", "readme/video/front/angry/level_1/001.mp4")
    return root


def test_mead_as_it_is_unpacked(tmp_path: Path) -> None:
    corpus = read_corpus("mead", _mead(tmp_path))
    items = {item.name: item for item in corpus.items}
    assert len(items) == 12 + 16
    item = items["M003_front_angry_2_003"]
    assert (item.identity, item.emotion, item.language) == ("M003", "angry", "en")
    assert item.video == tmp_path / "M003/video/front/angry/level_2/003.mp4"
    assert item.speech == tmp_path / "M003/audio/angry/level_2/003.m4a"
    other = items["M003_front_angry_1_003"]
    assert other.speech is None and other.missing_speech == tmp_path / "M003/audio/angry/level_1/003.wav"
    assert corpus.remarks == (f"{tmp_path / 'W009'}: video.tar is not unpacked: left out",)


def test_mead_sets_its_last_sentences_apart(tmp_path: Path) -> None:
    expected = [f"M003_front_neutral_1_{number:03d}" for number in range(3, 13)]
    expected += [f"M003_front_angry_{level}_{number:03d}" for level in (1, 2) for number in range(3, 9)]
    assert sorted(read_corpus("mead", _mead(tmp_path)).test_clips) == sorted(expected)


def test_other_views_of_mead_on_request(tmp_path: Path) -> None:
    corpus = read_corpus("mead", _mead(tmp_path), views=("left_30", "top"))
    assert [item.name for item in corpus.items] == ["M003_left_30_angry_2_003"]
    assert corpus.items[0].speech == tmp_path / "M003/audio/angry/level_2/003.m4a"  # sound has no view
    assert f"{tmp_path / 'M003'}: no videos of the view top" in corpus.remarks
    with pytest.raises(JaxtalkError, match="no video of the views top"):
        read_corpus("mead", tmp_path, views=("top",))


def test_a_folder_gives_a_person_a_sub_folder_or_a_file(tmp_path: Path) -> None:
    _touch(tmp_path, "ben.mp4", "anna/monday.mov", "anna/more/tuesday.MP4", "anna/monday.wav", "notes.txt")
    _touch(tmp_path, ".trash/old.mp4", "anna/._monday.mov", "clips/ben/frames/x.mp4")
    corpus = read_corpus("folder", tmp_path, tmp_path / "clips")
    assert [(item.name, item.identity) for item in corpus.items] == [
        ("anna_monday", "anna"),
        ("anna_more_tuesday", "anna"),
        ("ben", "ben"),
    ]
    assert [item.speech for item in corpus.items] == [tmp_path / "anna/monday.wav", None, None]
    assert corpus.items[2].missing_speech == tmp_path / "ben.wav"


@pytest.mark.parametrize(
    ("layout", "files", "options", "message"),
    [
        ("hdtf", ["a.mp4"], {}, r"no clip of HDTF here.*--dataset folder"),
        ("mead", ["a.mp4"], {}, "no actor of MEAD"),
        ("mead", ["M003/video.tar"], {}, "video.tar is not unpacked"),
        ("folder", ["a.txt"], {}, "no video in it"),
        ("hdtf", None, {}, "no such folder"),
        ("folder", ["a.mp4"], {"views": ("front",)}, "--view belongs to --dataset mead"),
        ("mead", ["a.mp4"], {"views": ("back",)}, "--view back: MEAD has front, down"),
        ("folder", ["a.mp4"], {"tables": Path("x")}, "--tables belongs to --dataset hdtf"),
    ],
)
def test_what_is_no_collection_is_told(
    tmp_path: Path, layout: str, files: list[str] | None, options: dict[str, Any], message: str
) -> None:
    _touch(tmp_path, *(files or ()))
    root = tmp_path if files is not None else tmp_path / "absent"
    with pytest.raises(JaxtalkError, match=message):
        read_corpus(layout, root, **options)


def test_two_videos_that_would_become_one_clip_are_named(tmp_path: Path) -> None:
    _touch(tmp_path, "a/b.mp4", "a_b.mp4")
    corpus = read_corpus("folder", tmp_path)
    with pytest.raises(JaxtalkError, match=r"a_b\.mp4 and .*b\.mp4: both would become the clip a_b"):
        run.prepare_corpus(corpus, tmp_path / "out", PrepareOptions(), 1)


# --- many at once, with a stand-in for the preparation of one

Prepare = Callable[[Path, Path, PrepareOptions], Clip]


def _prepare(video: Path, out: Path, options: PrepareOptions) -> Clip:
    """A clip of the file's name; the name also tells what is wrong with it."""
    if "damaged" in video.name:
        raise JaxtalkError(f"{video}: not readable; re-encode it")
    if "bug" in video.name:
        raise ZeroDivisionError("nobody\nforesaw this")
    if (out / "clip.json").is_file():
        return Clip.open(out)
    clip = write_fake_clip(out, seconds=0.2, identity=options.identity)
    (out / "preflight.json").write_text(json.dumps({"verdict": "poor" if "shaky" in video.name else "good"}))
    return clip


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Everything runs in this process, and nothing is really prepared."""

    def in_processes(
        function: Callable[[Any], Any], tasks: Sequence[Any], *_: Any
    ) -> Generator[tuple[int, Any], None, None]:
        for index in reversed(range(len(tasks))):
            yield index, Died(-9) if "dies" in tasks[index][0].name else function(tasks[index])

    monkeypatch.setattr(run, "in_processes", in_processes)
    monkeypatch.setattr(run, "prepare_clip", _prepare)
    monkeypatch.setattr(run, "_speech_file", lambda item: item.speech)
    monkeypatch.setattr(run, "_with_models", lambda options: options)
    return monkeypatch


def _collection(root: Path, *names: str, **more: Any) -> Corpus:
    items = [Item(name.replace("/", "_"), root / f"{name}.mp4", name.split("/")[0]) for name in names]
    return Corpus("folder", tuple(items), **more)


def test_what_fails_is_listed_and_the_rest_is_prepared(
    tmp_path: Path, here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = _collection(tmp_path, "anna/a", "anna/damaged", "ben/bug", "ben/dies", "cara/shaky")
    out = tmp_path / "out"
    report = prepare_dataset(corpus, out, PrepareOptions(), 2)
    assert [result.name for result in report.prepared] == ["anna_a", "cara_shaky"]
    run.print_report(report)
    printed = capsys.readouterr().err
    assert "3 failed" in printed and "poor, by their preflight.json: cara_shaky" in printed
    saved = json.loads((out / "failures.json").read_text())
    assert saved["prepared"] == 2 and saved["not_tried"] == 0
    rows = {row["name"]: row for row in saved["failures"]}
    assert list(rows) == ["anna_damaged", "ben_bug", "ben_dies"]
    assert rows["anna_damaged"] == {
        "name": "anna_damaged",
        "video": str(tmp_path / "anna/damaged.mp4"),
        "identity": "anna",
        "reason": f"{tmp_path / 'anna/damaged.mp4'}: not readable; re-encode it",
    }
    assert rows["ben_bug"]["reason"].startswith("unexpected ZeroDivisionError: nobody (")
    assert "_prepare" in rows["ben_bug"]["details"]
    assert "SIGKILL" in rows["ben_dies"]["reason"] and "lower --jobs" in rows["ben_dies"]["reason"]
    for row in rows.values():
        assert f"failed: {row['name']}: {row['reason']}" in printed

    manifest = Manifest.load(out / "manifest.json")
    assert {name: entry.identity for name, entry in manifest.clips.items()} == {"anna_a": "anna", "cara_shaky": "cara"}


def test_a_second_call_keeps_what_is_there(tmp_path: Path, here: pytest.MonkeyPatch) -> None:
    corpus, out = _collection(tmp_path, "a", "damaged"), tmp_path / "out"
    first = run.prepare_corpus(corpus, out, PrepareOptions(), 1)
    assert not first.prepared[0].already
    here.setattr(run, "prepare_clip", lambda video, out, options: Clip.open(out))
    (tmp_path / "out" / "damaged").mkdir()
    shutil.copytree(out / "a", out / "damaged", dirs_exist_ok=True)  # mended meanwhile
    second = run.prepare_corpus(corpus, out, PrepareOptions(), 1)
    assert [result.already for result in second.prepared] == [True, True]
    assert sorted(path.name for path in out.iterdir()) == ["a", "damaged"]  # no failures, no lock


def test_nothing_prepared_is_an_error(tmp_path: Path, here: pytest.MonkeyPatch) -> None:
    with pytest.raises(JaxtalkError, match=r"none of the 2 videos .*failures\.json says why, the first: .*re-encode"):
        prepare_dataset(_collection(tmp_path, "damaged", "damaged2"), tmp_path / "out", PrepareOptions(), 1)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_full_disk_ends_it(tmp_path: Path, here: pytest.MonkeyPatch) -> None:
    def full(video: Path, out: Path, options: PrepareOptions) -> Clip:
        if video.stem != "b":
            return _prepare(video, out, options)
        raise JaxtalkError("no space left on the device") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    here.setattr(run, "prepare_clip", full)
    report = run.prepare_corpus(_collection(tmp_path, "a", "b", "c"), tmp_path / "out", PrepareOptions(), 1)
    assert [result.name for result in report.prepared] == ["c"] and report.not_tried == 1
    assert json.loads((tmp_path / "out" / "failures.json").read_text())["not_tried"] == 1


def test_the_layout_and_the_user_tell_what_goes_into_the_clip(tmp_path: Path, here: pytest.MonkeyPatch) -> None:
    seen: list[PrepareOptions] = []
    here.setattr(run, "prepare_clip", lambda video, out, options: seen.append(options) or _prepare(video, out, options))
    items = (Item("a", tmp_path / "a.mp4", "M003", "angry", "en"), Item("b", tmp_path / "b.mp4", "M003"))
    given = PrepareOptions(size=64, consent={"scope": "research"}, language="fr")
    run.prepare_corpus(Corpus("mead", items), tmp_path / "out", given, 1)
    by_emotion = {options.emotion: options for options in seen}
    assert by_emotion["angry"].language == by_emotion[""].language == "fr"  # the user's word
    assert by_emotion["angry"].identity == "M003" and by_emotion["angry"].size == 64
    assert by_emotion["angry"].consent == {"scope": "research"}


def test_options_of_one_video_and_a_busy_folder_are_refused(tmp_path: Path, here: pytest.MonkeyPatch) -> None:
    corpus, out = _collection(tmp_path, "a"), tmp_path / "out"
    for options, name in [({"identity": "anna"}, "--identity"), ({"coefficients": "a.mat"}, "--coefficients")]:
        with pytest.raises(JaxtalkError, match=f"{name} belongs to one video"):
            run.prepare_corpus(corpus, out, PrepareOptions(**options), 1)  # type: ignore[arg-type]
    assert not out.exists()
    out.mkdir()
    with run._alone(out), pytest.raises(JaxtalkError, match="another preparation is writing"):
        run.prepare_corpus(corpus, out, PrepareOptions(), 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxtalkError, match="a file is there"):
        run.prepare_corpus(corpus, tmp_path / "file", PrepareOptions(), 1)


@pytest.mark.parametrize(
    ("names", "code", "told"),
    [(("a", "b", "damaged"), 0, "2 clips (0 were there), 1 failed"), (("damaged",), 2, "none of the 1 videos")],
)
def test_the_exit_code_tells_whether_anything_was_prepared(
    tmp_path: Path, here: pytest.MonkeyPatch, names: tuple[str, ...], code: int, told: str
) -> None:
    _touch(tmp_path, *(f"root/{name}.mp4" for name in names))
    words = ["prepare", "--dataset", "folder", "--root", str(tmp_path / "root"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.main, [*words, "--jobs", "3", "--size", "64"])
    assert result.exit_code == code and told in result.output + result.stderr
    assert (tmp_path / "out" / "failures.json").is_file()


def test_models_that_are_missing_are_told_once_and_at_once(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mp4")
    with pytest.raises(JaxtalkError, match=r"absent\.task: no such file"):
        run.prepare_corpus(
            read_corpus("folder", tmp_path), tmp_path / "out", PrepareOptions(landmarker=tmp_path / "absent.task"), 1
        )
    assert not (tmp_path / "out").exists()


# --- where the speech comes from


@pytest.mark.parametrize(
    ("own", "beside", "expected"),
    [(0.1, True, None), (0.1, False, None), (0.0, True, "a.wav"), (None, True, "a.wav"), (0.0, False, None)],
)
def test_a_videos_own_speech_goes_first(tmp_path: Path, own: float | None, beside: bool, expected: str | None) -> None:
    sound = None if own is None else own * np.random.default_rng(0).normal(size=RATE)
    video = write_video(tmp_path / "a.mp4", np.arange(25) / 25, np.full(25, 90), sound=sound)
    if beside:
        _touch(tmp_path, "a.wav")
    chosen = run._speech_file(Item("a", video, "a"))
    assert chosen == (None if expected is None else tmp_path / expected)


def test_a_video_without_any_speech_tells_where_it_may_lie(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", np.arange(25) / 25, np.full(25, 90))
    result = run.prepare_item((Item("a", video, "a"), tmp_path / "out", PrepareOptions()))
    assert result.reason.endswith(f"add {tmp_path / 'a.wav'}")


# --- manifests and splits


def test_the_manifest_keeps_who_was_on_the_test_side(tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        write_fake_clip(tmp_path / name, seconds=0.2, identity=name)
    first = write_manifest(tmp_path, tested=["ben", "nobody"], same_person=[("ben", "benjamin")])
    assert {name: entry.split for name, entry in first.clips.items()} == {"anna": "train", "ben": "test"}
    write_fake_clip(tmp_path / "more", seconds=0.2, identity="benjamin")
    write_fake_clip(tmp_path / "cara", seconds=0.2, identity="cara")
    second = write_manifest(tmp_path, tested=["cara"])
    sides = {name: entry.split for name, entry in second.clips.items()}
    assert sides == {"anna": "train", "ben": "test", "cara": "test", "more": "test"}
    assert second.clips["ben"] == first.clips["ben"] and Manifest.load(tmp_path / "manifest.json") == second


def test_a_manifest_splits_a_packed_dataset(tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        write_fake_clip(tmp_path / "clips" / name, seconds=0.2, identity=name)
    manifest = write_manifest(tmp_path / "clips", tested=["ben"])
    packed = pack([tmp_path / "clips" / name for name in ("anna", "ben")], tmp_path / "dataset", manifest)
    assert [clip.name for clip in open_packed(packed, "test")] == ["ben"]
    assert [clip.name for clip in open_packed(packed, "train")] == ["anna"]


def test_sentences_set_apart_are_listed(tmp_path: Path, here: pytest.MonkeyPatch) -> None:
    corpus = _collection(tmp_path, "M003/1", "M003/2", "M003/damaged", test_clips=("M003_2", "M003_damaged"))
    prepare_dataset(corpus, tmp_path / "out", PrepareOptions(), 1)
    later = _collection(tmp_path, "W009/1", "W009/2", test_clips=("W009_2",))
    prepare_dataset(later, tmp_path / "out", PrepareOptions(), 1)
    sides = json.loads((tmp_path / "out" / "sentence_split.json").read_text())
    assert sides["train"] == ["M003_1", "W009_1"] and sides["test"] == ["M003_2", "W009_2"]


def test_a_papers_split_goes_into_the_manifest(
    tmp_path: Path, here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    items = tuple(Item(f"person{i}_a", tmp_path / f"{i}.mp4", f"person{i}") for i in range(30))
    prepare_dataset(Corpus("hdtf", items), tmp_path / "out", PrepareOptions(), 1, "s3d_nerf")
    manifest = Manifest.load(tmp_path / "out" / "manifest.json")
    tested = sorted(entry.identity for entry in manifest.clips.values() if entry.split == "test")
    assert tested == held_out(published_split("s3d_nerf", "hdtf"), [item.identity for item in items])
    assert 0 < len(tested) < 10
    assert "no list of them" in capsys.readouterr().err
    with pytest.raises(JaxtalkError, match=r"--split gdrf: .*known are nerffacespeech, s3d_nerf"):
        prepare_dataset(Corpus("hdtf", items), tmp_path / "none", PrepareOptions(), 1, "gdrf")
    assert not (tmp_path / "none").exists()


def test_a_person_is_held_out_whoever_else_is_there() -> None:
    split = published_split("s3d_nerf", "hdtf")
    everybody = [f"person{i}" for i in range(400)]
    chosen = held_out(split, everybody)
    assert 0.06 < len(chosen) / 400 < 0.14
    assert held_out(split, everybody[::3]) == [name for name in chosen if name in everybody[::3]]
    assert held_out(published_split("s3d_nerf", "mead"), ["M003", "W009"]) == ["M003", "W009"]
    assert held_out(published_split("erlnet", "mead"), ["M003", "W009"]) == []


def test_two_names_of_one_person_are_drawn_together() -> None:
    split = published_split("s3d_nerf", "hdtf")
    for i in range(200):
        first, second = f"a{i}", f"b{i}"
        assert len(held_out(split, [first, second], [(second, first)])) in (0, 2)


def test_splits_are_stated_with_their_source() -> None:
    assert len({(split.paper, split.dataset) for split in SPLITS}) == len(SPLITS)
    for split in SPLITS:
        assert split.dataset in ("hdtf", "mead") and "card" in split.source and split.stated and split.ours


# --- real videos, real processes


def _real_options(data: Path) -> PrepareOptions:
    landmarker = data / "models" / "face_landmarker.task"
    return PrepareOptions(size=64, end=1.2, face_model="procedural", landmarker=landmarker, consent={"scope": "tests"})


def _useless(root: Path, whole: Path) -> None:
    """Half a video, silence, and a wall."""
    root.mkdir(parents=True, exist_ok=True)
    (root / f"half{whole.suffix}").write_bytes(whole.read_bytes()[:2000])
    times, noise = np.arange(50) / 25, 0.1 * np.random.default_rng(0).normal(size=2 * RATE)
    write_video(root / "wall.mp4", times, np.full(50, 90), sound=noise)
    write_video(root / "mute.mp4", times, np.full(50, 90), sound=0 * noise)


def test_useless_videos_each_tell_their_own_reason(real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    _useless(tmp_path / "root", real_data / "clips" / "grid" / "bbaf2n.mpg")
    (tmp_path / "root" / "wall.mp4").unlink()  # to find no face takes long: see below
    report = run.prepare_corpus(
        read_corpus("folder", tmp_path / "root"), tmp_path / "out", _real_options(real_data), jobs=1
    )
    reasons = {result.name: result.reason for result in report.failures}
    assert set(reasons) == {"half", "mute"}
    assert "silence" in reasons["mute"] and "half.mpg" in reasons["half"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["failures.json"]


def _hdtf_layout(root: Path, clips: Path) -> None:
    for name in ("WDA_KatieHill_000", "WDA_AlexandriaOcasioCortez_000"):
        shutil.copyfile(clips / f"hdtf_{name}.mp4", root / f"{name}.mp4")
    (root / "WDA_KatieHill_001.mp4").write_bytes(b"no video")


def _mead_layout(root: Path, clips: Path) -> None:
    """A silent video with its speech beside, a video with sound, and half a video."""
    video, audio = root / "M003/video/front/sad/level_3", root / "M003/audio/sad/level_3"
    video.mkdir(parents=True)
    audio.mkdir(parents=True)
    shutil.copyfile(clips / "styletalk/KristiNoem.mp4", video / "001.mp4")
    shutil.copyfile(clips / "styletalk/KristiNoem.wav", audio / "001.wav")
    shutil.copyfile(clips / "en_real3d_May.mp4", video / "002.mp4")
    (video / "003.mp4").write_bytes((video / "002.mp4").read_bytes()[:3000])


def _folder_layout(root: Path, clips: Path) -> None:
    _useless(root, clips / "grid/bbaf2n.mpg")
    (root / "speaker").mkdir()
    shutil.copyfile(clips / "grid/bbaf2n.mpg", root / "speaker/bbaf2n.mpg")


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("layout", "make", "prepared", "failed"),
    [
        ("hdtf", _hdtf_layout,
         {"WDA_KatieHill_000": "KatieHill", "WDA_AlexandriaOcasioCortez_000": "AlexandriaOcasioCortez"},
         {"WDA_KatieHill_001"}),
        ("mead", _mead_layout, dict.fromkeys(("M003_front_sad_3_001", "M003_front_sad_3_002"), "M003"),
         {"M003_front_sad_3_003"}),
        ("folder", _folder_layout, {"speaker_bbaf2n": "speaker"}, {"half", "wall", "mute"}),
    ],
)  # fmt: skip
def test_real_clips_of_each_layout(
    real_data: Path,
    tmp_path: Path,
    layout: str,
    make: Callable[[Path, Path], None],
    prepared: dict[str, str],
    failed: set[str],
) -> None:
    pytest.importorskip("mediapipe")
    root, out = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    make(root, real_data / "clips")
    report = prepare_dataset(read_corpus(layout, root, out), out, _real_options(real_data), 2)
    reasons = {result.name: result.reason for result in report.failures}
    assert set(reasons) == failed and "no face" in reasons.get("wall", "no face")
    assert {result.name: result.identity for result in report.prepared} == prepared
    for name, identity in prepared.items():
        clip = Clip.open(out / name)
        clip.validate(decode=True)
        assert clip.meta.identity == identity and clip.meta.consent == {"scope": "tests"}
        assert clip.meta.language == ("" if layout == "folder" else "en")
        assert clip.meta.emotion == ("sad" if layout == "mead" else "")
        assert abs(clip.audio()).max() > 0.01
    manifest = Manifest.load(out / "manifest.json")
    assert {name: entry.identity for name, entry in manifest.clips.items()} == prepared
    files = {"failures.json", "manifest.json", *prepared} | ({"sentence_split.json"} if layout == "mead" else set())
    assert {path.name for path in out.iterdir()} == files
    if layout == "folder":
        again = prepare_dataset(read_corpus(layout, root, out), out, _real_options(real_data), 2)
        assert all(result.already for result in again.prepared) and {r.name for r in again.failures} == failed
        assert Manifest.load(out / "manifest.json") == manifest
