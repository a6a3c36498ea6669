"""The few-shot protocol, end to end on talking balls: what it adapts to, tests on, compares and keeps."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxtalk import experiment
from jaxtalk.clip import Clip
from jaxtalk.config import base
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import fewshot_tables
from jaxtalk.evaluation.protocols.fewshot import split
from jaxtalk.evaluation.records import FewShot, Settings
from jaxtalk.evaluation.report import write_run_report
from jaxtalk.evaluation.results import read_results
from jaxtalk.evaluation.runner import evaluate
from jaxtalk.metrics import box_mask
from jaxtalk.synthesis.avatars import open_avatar
from tests import adapting_method
from tests.adapting_method import Adapting
from tests.fake_clip import write_fake_clip

ROOT = Path(__file__).parents[1]
ASKED = {"seconds": (2, 1), "steps": (100, 0, 400), "from_scratch": True}
CELLS = ("before-{}", "adapted-{}-100", "adapted-{}-400", "scratch-{}-100", "scratch-{}-400", "mean-{}", "copy-{}",
         "audio_shifted-{}-100", "audio_shifted-{}-400")  # fmt: skip
Outcome = tuple[dict[str, Any], Path, Adapting]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    """Ann was trained on; ben (two clips, one too short for 2 s) and cara were not; dan is not in the run."""
    folder, lengths = tmp_path_factory.mktemp("balls"), {"ann": 2, "ben_1": 4, "ben_2": 2, "cara": 4, "dan": 4}
    return {
        name: write_fake_clip(folder / name, seconds=seconds, seed=i, identity=name.partition("_")[0])
        for i, (name, seconds) in enumerate(lengths.items())
    }


def _install(monkeypatch: pytest.MonkeyPatch, run: Path, clips: dict[str, Clip], **fewshot: object) -> Adapting:
    packed = [clip for name, clip in clips.items() if name != "dan"]
    held_out = sorted({clip.meta.identity for clip in packed} - {"ann"})
    method = adapting_method.install(monkeypatch, run, packed, held_out, **fewshot)
    method.whole |= clips
    return method


@pytest.fixture(scope="module")
def outcome(clips: dict[str, Clip], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    run = tmp_path_factory.mktemp("runs") / "base"
    with pytest.MonkeyPatch.context() as monkeypatch:
        method = _install(monkeypatch, run, clips, **ASKED)
        return evaluate(run, "fewshot", video_seconds=0.4), run, method


def test_every_cell_has_its_rows(outcome: Outcome) -> None:
    results = outcome[0]
    names = [cell.format(f"{seconds}s") for seconds in (1, 2) for cell in CELLS]
    assert [row["name"] for row in results["rows"]] == [*names, "truth"]
    assert set(results["clips"]) == {"ben_1", "ben_2", "cara"}, "ann was trained on"
    for row in results["rows"]:
        expected = {"ben_1", "cara"} if row["seconds"] == 2 else {"ben_1", "ben_2", "cara"}
        assert set(results["values"][row["name"]]["ssim/gauss11"]["mouth"]["clips"]) == expected
    assert results["values"]["truth"]["psnr/rgb"]["face"]["mean"] == pytest.approx(100)


def test_a_short_clip_is_told_and_left_out_of_what_it_is_too_short_for(outcome: Outcome) -> None:
    results, run, _ = outcome
    assert list(results["absent"]) == ["2 s"]
    assert "2.8 s" in results["absent"]["2 s"] and results["absent"]["2 s"].endswith("(ben_2)")
    assert results["clips"]["ben_2"]["absent"].keys() == {"2 s"} and results["clips"]["cara"]["absent"] == {}
    for text in ((run / "eval/fewshot/table.md").read_text(), (run / "eval/fewshot/index.html").read_text()):
        assert results["absent"]["2 s"] in html.unescape(text)


def test_the_avatar_gets_the_first_seconds_and_is_tested_on_what_follows(outcome: Outcome) -> None:
    results, _, method = outcome
    asked = [(frames, steps, scratch) for name, frames, steps, scratch, _ in method.asked if name == "cara"]
    rising = [(0, False), (100, False), (400, False), (100, True), (400, True)]
    assert asked == [(frames, *rest) for frames in (25, 50) for rest in rising]
    assert {frames for name, frames, *_ in method.asked if name == "ben_2"} == {25}
    for name, first in (("cara", 60), ("ben_1", 60), ("ben_2", 35)):  # 2 s (1 s), and the gap of 0.4 s
        entry = results["clips"][name]
        assert min(entry["frames"]) == first and max(entry["frames"]) == first + entry["facts"]["test_frames"] - 1
        assert len(entry["frames"]) == 12


def test_split_of_a_shifted_and_irregular_clip() -> None:
    times = 7.0 + np.cumsum(np.random.default_rng(0).uniform(0.03, 0.05, 150))
    settings = Settings(0, 0.0, 1.0, 0.5, fewshot=FewShot((1.0, 3.0, 9.0), (1,)))
    view = SimpleNamespace(track=SimpleNamespace(time=times))
    parts, test = split(view, settings)  # type: ignore[arg-type]
    assert list(parts) == [1.0, 3.0]
    for seconds, train in parts.items():
        assert train[0] == 0 and np.ptp(times[train]) < seconds < np.ptp(times[train]) + 0.1
    assert 0.45 <= times[test[0]] - times[parts[3.0][-1]] <= 0.6 and test[-1] == 149
    assert split(view, Settings(0, 0.0, 1.0, 0.5, fewshot=FewShot((9.0,), (1,)))) == ({}, pytest.approx([]))  # type: ignore[arg-type]


def test_baselines_are_made_of_the_adaptation_frames_alone(outcome: Outcome, clips: dict[str, Clip]) -> None:
    """The copy and the mean, recomputed with plain loops."""
    results, clip = outcome[0], clips["cara"]
    entry, track = results["clips"]["cara"], clips["cara"].track
    for count, seconds in ((25, "1s"), (50, "2s")):
        mean = np.mean([clip.frame(i) / 255 for i in range(count)], axis=0)
        for position in (0, 5):
            frame = entry["frames"][position]
            distances = [
                np.arccos(np.clip((np.trace(track.rotation[i].T @ track.rotation[frame]) - 1) / 2, -1, 1))
                + np.linalg.norm(track.translation[i] - track.translation[frame]) / 0.1
                for i in range(count)
            ]
            inside = box_mask(track.face_box[frame : frame + 1], clip.meta.size)[0]
            answers = {"copy": clip.frame(int(np.argmin(distances))) / 255, "mean": np.round(255 * mean) / 255}
            for name, image in answers.items():
                expected = -10 * np.log10(np.mean((clip.frame(frame) / 255 - image)[inside] ** 2))
                found = entry["per_frame"][f"{name}-{seconds}"]["psnr/rgb"]["face"][position]
                assert found == pytest.approx(expected, abs=0.01)  # means of 50 frames tie


def test_paired_differences_are_those_of_a_cells_own_frames(outcome: Outcome) -> None:
    results = outcome[0]
    paired, frames = results["paired"], results["clips"]
    others = ("copy", "mean", "before", "scratch", "audio_shifted")
    adapted = [f"adapted-{s}s-{n}/{other}" for s in (1, 2) for n in (100, 400) for other in others]
    bare = [f"before-{s}s/{other}" for s in (1, 2) for other in ("copy", "mean")]
    assert sorted(paired) == sorted(adapted + bare)
    pair = paired["adapted-2s-100/scratch"]["psnr/rgb"]["face"]
    each = {}
    for name in ("ben_1", "cara"):
        ours, scratch = (
            frames[name]["per_frame"][f"{row}-2s-100"]["psnr/rgb"]["face"] for row in ("adapted", "scratch")
        )
        each[name] = np.subtract(ours, scratch)
    assert pair["mean"] == pytest.approx(np.mean([values.mean() for values in each.values()]))
    errors = {name: values.std(ddof=1) / np.sqrt(12) for name, values in each.items()}
    assert pair["standard_error"] == pytest.approx(np.hypot(*errors.values()) / 2)
    assert pair["identities"]["ben"]["mean"] == pytest.approx(each["ben_1"].mean())
    assert pair["identities"]["cara"]["standard_error"] == pytest.approx(errors["cara"])
    both = paired["adapted-1s-400/mean"]["psnr/rgb"]["mouth"]  # ben has two clips there
    per_clip = both["clips"]
    assert both["identities"]["ben"]["mean"] == pytest.approx(
        (per_clip["ben_1"]["mean"] + per_clip["ben_2"]["mean"]) / 2
    )
    assert both["mean"] == pytest.approx((both["identities"]["ben"]["mean"] + per_clip["cara"]["mean"]) / 2)
    assert both["frames"] == 36


def test_what_the_toy_is_good_at_shows(outcome: Outcome) -> None:
    """More steps, more seconds and base training make it better; it listens once it is adapted."""
    results = outcome[0]

    def face(row: str) -> float:
        return results["values"][row]["psnr/rgb"]["face"]["clips"]["cara"]

    assert face("before-2s") < face("adapted-2s-100") < face("adapted-2s-400")
    assert face("adapted-1s-400") < face("adapted-2s-400") and face("scratch-2s-400") < face("adapted-2s-400")
    drop = results["paired"]["adapted-2s-400/audio_shifted"]["psnr/rgb"]["mouth"]
    assert drop["mean"] > 1 and drop["mean"] > 2 * drop["standard_error"]


def test_every_adapted_avatar_is_kept_where_synthesis_finds_it(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, run, method = outcome
    names = {path.name for path in (run / "avatars").iterdir()}
    cells = ["0", "100", "400", "100-scratch", "400-scratch"]
    one = {f"{clip}-1s-{cell}" for clip in ("ben_1", "ben_2", "cara") for cell in cells}
    assert names == one | {f"{clip}-2s-{cell}" for clip in ("ben_1", "cara") for cell in cells}
    monkeypatch.setattr("jaxtalk.synthesis.avatars.load_method", lambda name: method)
    trained: Any = SimpleNamespace(workdir=run, config=base())
    avatar, origin = open_avatar(trained, "cara-1s-100")
    assert avatar.noise == pytest.approx(1 / (5 + np.sqrt(25 * 101)))
    assert origin["identity"] == "cara" and origin["adapted"]["steps"] == 100 and origin["consent"] == {}
    _, origin = open_avatar(trained, "cara")  # by the name of the person: the one adapted most
    assert origin["adapted"]["steps"] == 400 and not origin["adapted"]["from_scratch"]
    assert results["run"]["state_sha256"] == origin["state_sha256"]


def test_a_second_evaluation_takes_the_kept_avatars(
    outcome: Outcome, clips: dict[str, Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, few, two = tmp_path / "base", {"seconds": (1,), "steps": (100, 400)}, {n: clips[n] for n in ("ann", "cara")}
    first = _install(monkeypatch, run, two, **few)
    results = evaluate(run, "fewshot", max_frames=4, video_seconds=0)
    assert len(first.asked) == 2
    again = _install(monkeypatch, run, two, **few)
    assert evaluate(run, "fewshot", max_frames=4, video_seconds=0) == results and again.asked == []
    # One more number of steps between: what stands beyond it is begun again, what is kept stays.
    evaluate(run, "fewshot", max_frames=4, video_seconds=0, fewshot={"steps": [200, 400]})
    assert [(name, steps) for name, _, steps, *_ in again.asked] == [("cara", 200)]
    again.asked.clear()
    evaluate(run, "fewshot", max_frames=4, video_seconds=0, fewshot={"fresh": True})
    assert len(again.asked) == 2
    # Other parameters of the run make other avatars.
    (run / "metrics.jsonl").write_text(json.dumps({"stage": "field", "step": 10, "state_sha256": "ef" * 32}) + "\n")
    again.asked.clear()
    evaluate(run, "fewshot", max_frames=4, video_seconds=0)
    assert len(again.asked) == 2


def test_clips_of_strangers(clips: dict[str, Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "base"
    _install(monkeypatch, run, clips, seconds=(1,), steps=(10,))
    asked = {"clips": [str(clips["dan"].path)]}
    results = evaluate(run, "fewshot", max_frames=3, video_seconds=0, **asked)
    assert set(results["clips"]) == {"dan"} and results["settings"]["clips"] == asked["clips"]
    assert evaluate(run, "fewshot", max_frames=3, video_seconds=0, clips=[str(clips["cara"].path)])
    renamed = write_fake_clip(tmp_path / "x", seconds=2, seed=9, identity="ann")
    for folder in (clips["ann"].path, renamed.path):
        with pytest.raises(JaxtalkError, match="ann is no stranger: the run was trained on ann"):
            evaluate(run, "fewshot", clips=[str(folder)])
    with pytest.raises(JaxtalkError, match="no clip here"):
        evaluate(run, "fewshot", clips=[str(tmp_path / "nowhere")])


def test_a_stranger_may_be_known_under_another_name(
    clips: dict[str, Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "base"
    _install(monkeypatch, run, clips, seconds=(1,), steps=(10,))
    from jaxtalk.training.run import open_run

    open_run(run).config.data.same_person = ("dan=ann",)
    with pytest.raises(JaxtalkError, match="dan is no stranger: the run was trained on ann"):
        evaluate(run, "fewshot", clips=[str(clips["dan"].path)])


def test_refusals(clips: dict[str, Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = _install(monkeypatch, tmp_path, clips)
    requests: list[tuple[dict[str, object], str]] = [
        ({}, "needs --seconds and --steps"),
        ({"seconds": [1]}, "needs --seconds and --steps"),
        ({"seconds": [0], "steps": [1]}, "must be above 0"),
        ({"seconds": [1], "steps": [-1]}, "must be above 0"),
        ({"seconds": [20], "steps": [1]}, r"longest clip has 4\.00 s, .* need 20\.8; lower --seconds"),
    ]
    for fewshot, words in requests:
        with pytest.raises(JaxtalkError, match=words) as caught:
            evaluate(tmp_path, "fewshot", fewshot=fewshot)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr("jaxtalk.input.clips.held_out_clips", lambda config, workdir: [])
    with pytest.raises(JaxtalkError, match="nobody was held out"):
        evaluate(tmp_path, "fewshot", fewshot={"seconds": [1], "steps": [1]})
    monkeypatch.delattr(Adapting, "adapt")
    with pytest.raises(JaxtalkError, match="adapting does not adapt to a person it never saw"):
        evaluate(tmp_path, "fewshot", fewshot={"seconds": [1], "steps": [1]})
    assert method.asked == [] and not (tmp_path / "eval").exists()


def test_tables_have_the_papers_layout_and_its_rows(outcome: Outcome) -> None:
    results, run, _ = outcome
    tables = fewshot_tables.paper_tables(results)
    assert [table["title"].split(":")[0] for table in tables] == [
        f"{steps} steps, {region}" for steps in (100, 400) for region in ("frame", "face", "mouth")
    ]
    fewer, frame, face = tables[0], tables[3], tables[4]
    assert frame["columns"] == ["1 s", "2 s (2 of 3 clips)", "3 s", "5 s", "10 s"]
    assert fewer["columns"] == face["columns"] == frame["columns"][:2]
    rows = {row["label"]: row["cells"] for row in frame["rows"]}
    assert rows["DFRF"] == ["–", "–", "28.61 / 0.909", "29.18 / 0.912", "29.28 / 0.912"]
    values = results["values"]["adapted-2s-400"]
    expected = f"{values['psnr/rgb']['frame']['mean']:.2f} / {values['ssim/gauss11']['frame']['mean']:.3f}"
    assert rows["adapting, adapted"][1:] == [expected, "–", "–", "–"]
    assert rows["adapting, before adaptation"][0].startswith(
        f"{results['values']['before-1s']['psnr/rgb']['frame']['mean']:.2f}"
    )
    kinds = {row["label"]: row["kind"] for row in frame["rows"]}
    assert kinds["DFRF"] == kinds["NeRF"] == "published" and kinds["adapting, adapted"] == "adapted"
    assert not any(row["kind"] == "published" for table in (fewer, face) for row in table["rows"])
    text = (run / "eval/fewshot/table.md").read_text()
    assert text.startswith(fewshot_tables.markdown(results)) and expected in text and "29.32 / 0.916" in text
    assert "| DFRF (published, another protocol: not comparable) |" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_one_length_gives_the_layout_of_table_2(
    clips: dict[str, Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, tmp_path, {"ann": clips["ann"], "cara": clips["cara"]} | {"ben_1": clips["ben_1"]})
    results = evaluate(tmp_path, "fewshot", max_frames=3, video_seconds=0,
                       fewshot={"seconds": [1.5], "steps": [1000, 200]})  # fmt: skip
    table = fewshot_tables.paper_tables(results)[0]
    assert table["title"].startswith("1.5 s, frame") and "Table 2" in table["caption"]
    assert table["columns"] == ["200 steps", "1,000 steps", "5,000 steps", "10,000 steps"]
    rows = {row["label"].split(" (")[0]: row["cells"] for row in table["rows"]}
    assert rows["GDRF"] == ["–", "28.59 / 0.889", "29.04 / 0.902", "29.15 / 0.903"]
    assert rows["nearest frame"][0] == rows["nearest frame"][1] != "–"
    assert {row["variant"] for row in results["rows"]} == {"adapted", "copy", "mean", "audio_shifted", "truth"}


def test_published_numbers_are_consistent_with_each_other() -> None:
    """Values of the card that would show a slip of a column: Table 6's rows 1 and 4 are Table 1's 5 s cells."""
    table = fewshot_tables.published()["by_seconds"]
    five = {row["method"]: next(c for c in row["cells"] if c["seconds"] == 5) for row in table["rows"]}
    assert [five["DFRF"][name] for name in ("psnr", "ssim", "lpips", "syncnet_confidence")] == [
        29.18,
        0.912,
        0.065,
        3.273,
    ]
    assert [five["GDRF"][name] for name in ("psnr", "ssim", "lpips", "syncnet_confidence")] == [
        29.26,
        0.915,
        0.060,
        3.900,
    ]
    steps = fewshot_tables.published()["by_steps"]["rows"][3]
    assert steps["method"] == "GDRF" and steps["cells"][2]["psnr"] == 29.15 and steps["cells"][2]["steps"] == 10000
    for row in table["rows"]:
        assert row["cells"][0]["seconds"] == 3 and (row["cells"][0]["syncnet_confidence"] is None) == (
            row["method"] == "NeRF"
        )


def test_the_page_holds_tables_differences_and_people(outcome: Outcome) -> None:
    results, run, _ = outcome
    page = run / "eval/fewshot/index.html"
    text = html.unescape(page.read_text())
    cells = [cell for table in fewshot_tables.paper_tables(results) for row in table["rows"] for cell in row["cells"]]
    people = fewshot_tables.by_identity(results)
    assert [row["label"] for row in people["rows"]] == ["ben", "cara"] and len(people["columns"]) == 5
    cells += [fewshot_tables.difference(pair) for row in people["rows"] for pair in row["cells"]]
    cells += [fewshot_tables.difference(pair["psnr/rgb"]["mouth"]) for pair in results["paired"].values()]
    assert not [cell for cell in cells if cell not in text]
    assert "PSNR of the face over steps" in text and "Before adaptation 2" in text
    assert text.count("<details>") == text.count("</details>")
    for link in re.findall(r'(?:href|src|poster)="([^"]*)"', page.read_text()):
        if not link.startswith(("data:", "#")):
            assert (page.parent / link).is_file(), link
    assert (run / "eval/fewshot/cara.mp4").is_file() and read_results(page.with_name("results.json")) == results
    assert "Few-shot evaluation" in write_run_report(run).read_text()


def test_the_headline_says_what_the_numbers_say(outcome: Outcome) -> None:
    results = json.loads(json.dumps(outcome[0]))
    assert results["subject_row"] == "adapted-1s-400", "the cell that every clip has"
    from jaxtalk.evaluation.summary import headline, tiles

    text = headline(results)
    copy = results["paired"]["adapted-1s-400/copy"]["psnr/rgb"]["mouth"]
    assert f"{abs(copy['mean']):.2f}" in text and ("closer" in text) == (copy["mean"] > 0)
    assert "After 400 steps on the first 1 s of 2 people" in text and "the mouth follows it" in text
    assert [tile["label"] for tile in tiles(results)][:2] == ["Face", "Mouth, against a copy"]
    scratch = results["paired"]["adapted-1s-400/scratch"]["psnr/rgb"]["face"]
    scratch["mean"], scratch["standard_error"] = 0.1, 0.2
    results["paired"]["adapted-1s-400/audio_shifted"]["psnr/rgb"]["mouth"]["mean"] = -0.3
    assert "less than two standard errors" in headline(results) and "no sign" in headline(results)


def test_training_leaves_held_out_people_alone(
    clips: dict[str, Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, learnt = base(), []
    config.method, config.data.size, config.data.test_seconds = "ad_nerf", 32, 0.0
    config.data.clips = tuple(str(clip.path) for clip in clips.values())
    config.data.held_out, config.data.same_person = ("ben",), ("dan=ben",)
    monkeypatch.setattr(
        "jaxtalk.training.run.train_stages", lambda config, workdir, views, stages: learnt.extend(views)
    )
    monkeypatch.setattr(experiment, "load_method", lambda name: SimpleNamespace(stages=lambda config: ()))
    experiment.train(config, tmp_path)
    assert [view.name for view in learnt] == ["ann", "cara"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--protocol=self --steps=3", "--steps belongs to --protocol=fewshot"),
        ("--protocol=fewshot --seconds=three", "--seconds: 'three' is no list of numbers"),
        ("--protocol=fewshot --pose=sideways", "pose"),
    ],
)
def test_eval_py_tells_wrong_flags_in_one_line(arguments: str, words: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "eval.py"), f"--workdir={tmp_path}", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
