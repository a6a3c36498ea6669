"""Runs in one table: which of them compare, their differences, the best of a column, and how their configs differ."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import pytest
from click.testing import CliRunner

from jaxtalk import cli
from jaxtalk.config import as_plain
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation.compare import read_entries, short_names
from jaxtalk.evaluation.compare_page import compare_runs, difference, markdown
from jaxtalk.evaluation.compare_tables import comparison
from jaxtalk.evaluation.results import formatted, read_results
from jaxtalk.evaluation.runner import evaluate
from jaxtalk.training import run as training_run
from tests import listening_method
from tests.fake_clip import write_fake_clip

METRICS = ["psnr/rgb", "ssim/gauss11"]
SETTINGS = {  # seed, model: the ablations
    "base": (0, {"warp": "feature", "slots": {"size": 64}}),
    "deaf": (0, {"warp": "none", "slots": {"size": 64}}),
    "noisy": (1, {"warp": "none", "slots": {"size": 64}}),
}
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of two speakers: `deaf` does not listen, `noisy` has worse pictures than `base`."""
    folder = tmp_path_factory.mktemp("compare")
    clips = [write_fake_clip(folder / f"c{i}", seconds=4, seed=i, identity=f"p{i}") for i in range(2)]
    for name, (seed, model) in SETTINGS.items():
        workdir = folder / name
        with pytest.MonkeyPatch.context() as patch:
            avatar, noise = listening_method.FakeAvatar, 0.08 if name == "noisy" else 0.02
            patch.setattr(
                listening_method, "FakeAvatar", lambda view, listening, n=noise, a=avatar: a(view, listening, n)
            )
            listening_method.install(patch, workdir, clips, listening=0.0 if name == "deaf" else 0.3)
            config = training_run.open_run(workdir).config
            config.seed, config.model = seed, ml_collections.ConfigDict(model)
            (workdir / "config.json").write_text(json.dumps(as_plain(config)))
            evaluate(workdir, "self", max_frames=6, video_seconds=0, metrics=METRICS)
    return folder


@pytest.fixture
def changed(runs: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a run whose results have been changed."""

    def copy(change: Change, name: str = "base") -> Path:
        workdir = tmp_path / f"{name}_changed"
        shutil.copytree(runs / name, workdir)
        path = workdir / "eval/self/results.json"
        results = json.loads(path.read_text())
        change(results)
        path.write_text(json.dumps(results))
        return workdir

    return copy


def _compared(*paths: Path, metrics: tuple[str, ...] = ()) -> dict[str, Any]:
    return comparison(read_entries(paths), metrics)


def _results(workdir: Path) -> dict[str, Any]:
    return read_results(workdir / "eval/self/results.json")


def _cell(found: dict[str, Any], row: int, metric: str, region: str = "Frame") -> dict[str, Any]:
    for table in found["tables"]:
        for column, cell in zip(table["columns"], table["rows"][row]["cells"], strict=True):
            if (column["metric"], column["region"]) == (metric, region):
                return cell
    raise KeyError(metric)


def test_one_line_a_run_and_the_shared_rows_once(runs: Path) -> None:
    found = _compared(runs / "base", runs / "deaf", runs / "noisy")
    (table,) = found["tables"]
    names = [row["run"]["name"] for row in table["rows"]]
    assert names == ["base", "deaf", "noisy", "Nearest frame", "Mean frame", "Background plate", "Ground truth"]
    for row, name in enumerate(SETTINGS):
        results = _results(runs / name)
        for metric in METRICS:
            for region, label in results["regions"].items():
                assert _cell(found, row, metric, label)["value"] == results["values"]["ours"][metric][region]["mean"]
    assert _cell(found, 6, "psnr/rgb")["text"] == "100.00"
    assert (
        _cell(found, 3, "psnr/rgb")["value"]
        == _results(runs / "base")["values"]["nearest"]["psnr/rgb"]["frame"]["mean"]
    )


def test_differences_are_those_of_the_same_frames(runs: Path) -> None:
    """Mean over frames, then people; errors of the people's means add in squares."""
    found = _compared(runs / "base", runs / "noisy")
    base, noisy = _results(runs / "base"), _results(runs / "noisy")
    means, errors = [], []
    for clip in ("c0", "c1"):
        first, second = (r["clips"][clip]["per_frame"]["ours"]["ssim/gauss11"]["mouth"] for r in (base, noisy))
        change = np.array(second) - np.array(first)
        means.append(change.mean())
        errors.append(change.std(ddof=1) / np.sqrt(len(change)))
    pair = _cell(found, 1, "ssim/gauss11", "Mouth")["pair"]
    assert pair["mean"] == pytest.approx(np.mean(means))
    assert pair["standard_error"] == pytest.approx(np.hypot(*errors) / 2)
    assert (pair["frames"], pair["clips"]) == (12, 2)
    assert _cell(found, 0, "ssim/gauss11", "Mouth")["pair"] is None
    assert (
        _cell(found, 1, "psnr/rgb")["sign"] == -1
        and _cell(_compared(runs / "noisy", runs / "base"), 1, "psnr/rgb")["sign"] == 1
    )


def test_frames_and_clips_without_a_value_do_not_count(runs: Path, changed: Callable[..., Path]) -> None:
    def change(results: dict[str, Any]) -> None:
        results["clips"]["c0"]["per_frame"]["ours"]["psnr/rgb"]["face"] = [None] * 6
        results["clips"]["c1"]["per_frame"]["ours"]["psnr/rgb"]["face"][2] = None

    pair = _cell(_compared(runs / "base", changed(change)), 1, "psnr/rgb", "Face")["pair"]
    assert (pair["mean"], pair["frames"], pair["clips"]) == (0.0, 5, 1)


@pytest.mark.parametrize(
    ("higher", "truth", "best"),
    [(True, 100.0, "base"), (False, 100.0, "noisy"), (None, 100.0, "base"), (None, 0.0, "noisy"), (None, None, "")],
)
def test_the_best_is_marked_by_the_metrics_direction(
    runs: Path, changed: Callable[..., Path], higher: bool | None, truth: float | None, best: str
) -> None:
    def change(results: dict[str, Any]) -> None:
        results["metrics"]["psnr/rgb"]["higher_is_better"] = higher
        results["values"]["truth"]["psnr/rgb"]["frame"]["mean"] = truth

    found = _compared(changed(change), changed(change, "noisy"))
    marked = [found["runs"][row]["name"] for row in (0, 1) if _cell(found, row, "psnr/rgb")["best"]]
    assert marked == [best] * bool(best)
    assert _cell(found, 1, "psnr/rgb")["sign"] == {True: -1, False: 1, None: 0}[higher]


def test_equal_values_are_not_a_contest(runs: Path, changed: Callable[..., Path]) -> None:
    found = _compared(runs / "base", changed(lambda results: None))
    assert not any(_cell(found, row, "psnr/rgb")["best"] for row in (0, 1))
    found = _compared(runs / "base", changed(lambda results: None, "deaf"), runs / "noisy")
    assert [_cell(found, row, "psnr/rgb", "Mouth")["best"] for row in range(3)].count(True) >= 1
    assert not _cell(found, 2, "psnr/rgb")["best"]


def test_settings_in_which_the_runs_differ_label_them(runs: Path) -> None:
    found = _compared(runs / "base", runs / "deaf", runs / "noisy")
    assert found["settings"] == {"model.warp": "warp", "seed": "seed"}
    assert [run["label"] for run in found["runs"]] == ["warp feature, seed 0", "warp none, seed 0", "warp none, seed 1"]
    assert found["runs"][2]["settings"] == {"seed": "1", "model.warp": "none"}
    assert _compared(runs / "deaf", runs / "noisy")["settings"] == {"seed": "seed"}


def test_settings_are_called_by_as_little_as_tells_them_apart() -> None:
    keys = ["stages.adapt.steps", "stages.field.steps", "model.size", "data.size", "size", "seed"]
    assert list(short_names(keys).values()) == ["adapt.steps", "field.steps", "model.size", "data.size", "size", "seed"]


def test_a_config_that_is_not_the_evaluated_one_is_not_believed(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "deaf", tmp_path / "deaf")
    path = tmp_path / "deaf/config.json"
    path.write_text(path.read_text().replace('"none"', '"point"'))
    found = _compared(runs / "base", tmp_path / "deaf", runs / "noisy")
    assert found["runs"][1]["settings"] == {"seed": "–", "model.warp": "–"}
    assert found["missing"] == ["Settings of deaf are not known: no config.json, or not the one of the evaluation."]


def _other_frames(results: dict[str, Any]) -> None:
    results["clips"]["c0"]["frames"][0] += 1


def _fewer_frames(results: dict[str, Any]) -> None:
    results["clips"]["c0"]["frames"] = results["clips"]["c0"]["frames"][:4]


def _without_clip(results: dict[str, Any]) -> None:
    del results["clips"]["c0"], results["split"]["manifest"]["clips"]["c0"]
    results["failures"]["c0"] = "damaged"


def _other_content(results: dict[str, Any]) -> None:
    results["split"]["manifest"]["clips"]["c1"]["sha256"] = "0" * 64


def _other_row(results: dict[str, Any]) -> None:
    row = {**results["rows"][0], "name": "more", "label": "More steps"}
    results["rows"].append(row)
    results["values"]["more"] = results["values"]["ours"]
    results["subject_row"] = "more"


def _other_source(results: dict[str, Any]) -> None:
    results["values"]["mean"]["psnr/rgb"]["face"]["mean"] += 1


CHANGES: dict[str, Change] = {
    r"frames of 48 pixels, not 32": lambda results: results["run"].update(size=48),
    r"clip c0: other frames were tested": _other_frames,
    r"clip c0: other frames were tested \(4, not 6\)": _fewer_frames,
    r"clip c0 was not tested: damaged": _without_clip,
    r"clip c1 is not the same \(its hash differs": _other_content,
    r"its row is “More steps”, not “Ours”": _other_row,
    r"source_seconds is 3, not 0": lambda results: results["settings"].update(source_seconds=3.0),
    r"trained on people of clip c1": lambda results: results["split"]["seen"].update(c1="c7"),
    r"psnr/rgb was defined in another way": lambda results: results["metrics"]["psnr/rgb"].update(definition="new"),
    r"baseline “Mean frame” has other values": _other_source,
}


@pytest.mark.parametrize("told", CHANGES)
def test_a_run_that_does_not_compare_is_marked(runs: Path, changed: Callable[..., Path], told: str) -> None:
    other = changed(CHANGES[told])
    found = _compared(runs / "noisy", runs / "deaf", other)
    (remark,) = found["runs"][2]["remarks"]
    assert re.search(told, remark) and not found["runs"][1]["remarks"]
    assert re.search(rf"NOT COMPARABLE with noisy \(≠\): base: .*{told}", markdown(found))
    assert "| base (≠) |" in markdown(found) and not _cell(found, 2, "psnr/rgb")["best"]
    assert _cell(found, 1, "psnr/rgb")["best"]


def test_differences_leave_out_other_frames(runs: Path, changed: Callable[..., Path]) -> None:
    pair = _cell(_compared(runs / "noisy", changed(_other_frames)), 1, "psnr/rgb")["pair"]
    assert (pair["clips"], pair["frames"]) == (1, 6)
    results = [
        _results(runs / name)["clips"]["c1"]["per_frame"]["ours"]["psnr/rgb"]["frame"] for name in ("base", "noisy")
    ]
    assert pair["mean"] == pytest.approx(np.mean(results[0]) - np.mean(results[1]))


def test_no_common_frame_no_difference(runs: Path, changed: Callable[..., Path]) -> None:
    def change(results: dict[str, Any]) -> None:
        _other_frames(results)
        _other_content(results)

    assert _cell(_compared(runs / "noisy", changed(change)), 1, "psnr/rgb")["pair"] is None


def test_what_wrong_speech_costs_is_told_for_each_run(runs: Path) -> None:
    controls = _compared(runs / "base", runs / "deaf")["controls"]
    column = controls["columns"].index("minus “speech 1 s late”: PSNR mouth, dB")
    base, deaf = (row["cells"][column][0] for row in controls["rows"])
    assert base == _results(runs / "base")["paired"]["audio_shifted"]["psnr/rgb"]["mouth"]
    assert base["mean"] > 1 and abs(deaf["mean"]) < 1e-6


def test_chosen_metrics_alone(runs: Path) -> None:
    found = _compared(runs / "base", runs / "deaf", metrics=("ssim/gauss11",))
    assert {column["metric"] for table in found["tables"] for column in table["columns"]} == {"ssim/gauss11"}
    assert found["controls"] is None and list(found["definitions"]) == ["ssim/gauss11"]
    with pytest.raises(JaxtalkError, match="no run was measured by 'psnr/grey'; there are psnr/rgb, ssim/gauss11"):
        _compared(runs / "base", runs / "deaf", metrics=("psnr/grey",))


def test_a_metric_that_one_run_lacks_is_a_dash_and_a_reason(runs: Path, changed: Callable[..., Path]) -> None:
    def change(results: dict[str, Any]) -> None:
        for values in (*results["values"].values(), *results["paired"].values(), results["metrics"]):
            values.pop("psnr/rgb", None)
        for clip in results["clips"].values():
            for row in clip["per_frame"].values():
                del row["psnr/rgb"]
        results["unmeasured"]["psnr/rgb"] = "no light"

    found = _compared(runs / "base", changed(change))
    assert _cell(found, 1, "psnr/rgb")["text"] == "–" and _cell(found, 1, "psnr/rgb")["pair"] is None
    assert not _cell(found, 0, "psnr/rgb")["best"]
    assert any(re.fullmatch(r"Not measured of base \(.*\): psnr/rgb: no light\.", line) for line in found["missing"])


def test_runs_are_named_in_every_way(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "noisy", tmp_path / "base")
    file = tmp_path / "base/eval/self/results.json"
    entries = read_entries([runs / "deaf", runs / "base/eval/self", file])
    assert [entry.name for entry in entries] == ["deaf", "base", "noisy"]
    assert all(entry.config for entry in entries)
    twins = read_entries([runs / "noisy", tmp_path / "base"])
    assert [entry.name for entry in twins] == [f"noisy ({runs / 'noisy'})", f"noisy ({tmp_path / 'base'})"]


def test_what_cannot_be_compared_is_told(runs: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(runs / "base", both)
    shutil.copytree(both / "eval/self", both / "eval/flip")
    shutil.copytree(both / "eval/self", both / "eval/heldout.partial")
    flip = tmp_path / "flip"
    shutil.copytree(both, flip)
    shutil.rmtree(flip / "eval/self")
    old = tmp_path / "old"
    shutil.copytree(runs / "base", old)
    path = old / "eval/self/results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))
    cases: list[tuple[list[Path], str, str]] = [
        ([runs / "base"], "", "at least two runs"),
        ([runs / "base", runs / "base/eval/self"], "", "named twice"),
        ([runs / "base", tmp_path / "nothing"], "", "nothing: no evaluation here"),
        ([runs / "base", flip], "", r"no protocol in common \(.*base: self; .*flip: flip\)"),
        ([both, both / "eval/self"], "flip", "no evaluation by 'flip', only by self"),
        ([runs / "base", both], "heldout", "no evaluation by 'heldout', only by self"),
        ([runs / "base", old], "", "schema 1"),
    ]
    for paths, protocol, told in cases:
        with pytest.raises(JaxtalkError, match=told):
            read_entries(paths, protocol)
    second = tmp_path / "second"
    shutil.copytree(both, second)
    with pytest.raises(JaxtalkError, match="the runs share flip, self; choose one with --protocol=flip"):
        read_entries([both, second])
    assert [entry.folder.name for entry in read_entries([both, second], "flip")] == ["flip", "flip"]


def test_the_files_hold_the_numbers(runs: Path, tmp_path: Path) -> None:
    paths = [runs / name for name in SETTINGS]
    found = compare_runs(paths, tmp_path / "out")
    page = html.unescape((tmp_path / "out/compare.html").read_text())
    told = (tmp_path / "out/compare.md").read_text()
    cells = [cell for table in found["tables"] for row in table["rows"] for cell in row["cells"]]
    for cell in cells:
        assert cell["text"] in page and cell["text"] in told
        assert difference(cell["pair"], cell["digits"]) in page
    assert told == markdown(found) and "| base |" in told and "**" + _cell(found, 0, "psnr/rgb")["text"] in told
    assert set(re.findall(r'(?:href|src)="([^"#][^"]*?)[",;]', page)) == {"compare.csv", "compare.md", "data:image/png"}
    assert "warp feature, seed 0" in page and "model.warp" in page and "c1" in page
    before = [(tmp_path / "out" / name).read_bytes() for name in ("compare.html", "compare.md", "compare.csv")]
    compare_runs(paths, tmp_path / "out")
    assert before == [(tmp_path / "out" / name).read_bytes() for name in ("compare.html", "compare.md", "compare.csv")]


def test_the_csv_has_a_line_a_value(runs: Path, tmp_path: Path) -> None:
    found = compare_runs([runs / "base", runs / "noisy"], tmp_path)
    with (tmp_path / "compare.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6 * 6  # two runs, three baselines, the truth; two metrics in three regions
    (line,) = [x for x in lines if (x["name"], x["metric"], x["region"]) == ("noisy", "psnr/rgb", "face")]
    cell = _cell(found, 1, "psnr/rgb", "Face")
    assert float(line["mean"]) == cell["value"] and float(line["minus_first"]) == cell["pair"]["mean"]
    assert (line["low"], line["high"]) == tuple(map(str, cell["interval"]))
    assert (line["comparable"], line["best"], line["model.warp"], line["seed"]) == ("yes", "", "none", "1")


def test_every_shown_frame_is_there_for_each_run(runs: Path, tmp_path: Path) -> None:
    compare_runs([runs / "base", runs / "noisy"], tmp_path)
    page = html.unescape((tmp_path / "compare.html").read_text())
    assert page.count("<img") == 2 * 3 * 3  # clips, frames, pictures
    picture = _results(runs / "noisy")["clips"]["c0"]["pictures"][0]
    value = _results(runs / "noisy")["clips"]["c0"]["per_frame"]["ours"]["psnr/rgb"]["mouth"][picture["position"]]
    assert f"noisy {formatted(value, 1)}</figcaption>" in page


def test_names_cannot_inject_markup(runs: Path, changed: Callable[..., Path], tmp_path: Path) -> None:
    other = changed(lambda results: results["run"].update(name="<script>alert(1)</script>"))
    compare_runs([runs / "base", other], tmp_path)
    assert "<script>" not in (tmp_path / "compare.html").read_text()


def test_the_command(runs: Path, tmp_path: Path) -> None:
    words = ["compare", str(runs / "base"), str(runs / "noisy"), "--out", str(tmp_path / "o"), "--metrics", "psnr/rgb"]
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == 0, result.output
    assert "| Pictures | PSNR, dB frame ↑ |" in result.output and "SSIM" not in result.output
    assert f"wrote {tmp_path / 'o/compare.html'}" in result.output and (tmp_path / "o/compare.html").is_file()
    result = CliRunner().invoke(cli.main, ["compare", str(runs / "base")])
    assert (
        result.exit_code == 2
        and result.output == "error: compare: name at least two runs, e.g. jaxtalk compare runs/base runs/no_warp\n"
    )
