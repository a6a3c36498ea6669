"""The pages: they hold the numbers of results.json, need nothing from outside, and their links lead somewhere."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import pictures
from jaxtalk.evaluation.charts import line_chart
from jaxtalk.evaluation.report import embedded, write_protocol_report, write_run_report
from jaxtalk.evaluation.results import formatted, read_results
from jaxtalk.evaluation.runner import evaluate
from jaxtalk.evaluation.summary import headline
from jaxtalk.evaluation.tables import markdown, paired_csv, values_csv
from tests import listening_method
from tests.fake_clip import write_fake_clip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two speakers, evaluated."""
    folder = tmp_path_factory.mktemp("report")
    clips = [write_fake_clip(folder / f"c{i}", seconds=4, seed=i, identity=f"p{i}") for i in range(2)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        listening_method.install(monkeypatch, folder / "run", clips)
        evaluate(folder / "run", "self", max_frames=5, video_seconds=0.3)
    return folder / "run"


@pytest.fixture(scope="module")
def results(run: Path) -> dict[str, Any]:
    return read_results(run / "eval/self/results.json")


def _links(page: Path) -> list[str]:
    return re.findall(r'(?:href|src|poster)="([^"]*)"', page.read_text())


def _check_links(page: Path) -> None:
    for link in _links(page):
        if not link.startswith(("data:", "#")):
            assert not re.match(r"\w+:|/", link), f"{link} leads out of the run folder"
            assert (page.parent / link).is_file(), link


def _numbers(results: dict[str, Any]) -> set[str]:
    values = {
        formatted(cell["mean"], results["metrics"][metric]["digits"])
        for row in results["values"].values()
        for metric, regions in row.items()
        for cell in regions.values()
    }
    drops = results["paired"]["audio_shifted"]["psnr/rgb"].values()
    return values | {f"{formatted(d['mean'], 2, True)} ± {formatted(d['standard_error'], 2)}" for d in drops}


def test_the_page_holds_every_number_of_the_tables(run: Path, results: dict[str, Any]) -> None:
    text = html.unescape((run / "eval/self/index.html").read_text())
    assert not [number for number in _numbers(results) if number not in text]
    assert headline(results) in text
    _check_links(run / "eval/self/index.html")


def test_the_run_report_shows_evaluations_samples_previews_and_config(run: Path, results: dict[str, Any]) -> None:
    (run / "samples").mkdir(exist_ok=True)
    sample = run / "samples/hello.mp4"
    shutil.copy(run / "eval/self/c0.mp4", sample)
    previews = run / "stages/field/previews"
    previews.mkdir(parents=True, exist_ok=True)
    for step in range(0, 900, 100):
        Image.fromarray(np.full((16, 16, 3), step // 4, np.uint8)).save(previews / f"head-{step:08d}.png")
    page = write_run_report(run, [sample])
    text = html.unescape(page.read_text())
    assert page == run / "report/index.html"
    assert not [number for number in _numbers(results) if number not in text]
    assert "jax 0.1, flax 0.2" in text
    assert "../samples/hello.mp4" in _links(page) and "../eval/self/c0.mp4" in _links(page)
    assert "step 800" in text and "step 0<" in text and text.count("while it learns") == 1
    assert '"method": "fake"' in text and results["run"]["state_sha256"] in text
    _check_links(page)


def test_a_run_without_an_evaluation_has_a_report_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"method": "ad_nerf", "seed": 3, "data": {"size": 48}}))
    text = write_run_report(tmp_path).read_text()
    assert "ad_nerf" in text and "48 pixels" in text and "seed 3" in text


def test_names_cannot_inject_markup(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "eval", tmp_path / "eval")
    path = tmp_path / "eval/self/results.json"
    evil = json.loads(path.read_text())
    evil["run"]["name"] = "<script>alert(1)</script>"
    path.write_text(json.dumps(evil))
    assert "<script>" not in write_protocol_report(tmp_path / "eval/self").read_text()


def test_csv_and_markdown_hold_the_means(run: Path, results: dict[str, Any]) -> None:
    lines = [line.split(",") for line in values_csv(results).splitlines()]
    assert lines[0][:6] == ["row", "metric", "region", "clip", "identity", "value"]
    table = {tuple(line[:4]): line for line in lines[1:]}
    assert len(table) == len(lines) - 1 == 7 * 3 * 3 * (1 + 2)
    value = results["values"]["nearest"]["ssim/gauss11"]["mouth"]
    assert float(table["nearest", "ssim/gauss11", "mouth", ""][5]) == value["mean"]
    assert float(table["nearest", "ssim/gauss11", "mouth", "c1"][5]) == value["clips"]["c1"]
    pairs = {tuple(line[:5]): line for line in (text.split(",") for text in paired_csv(results).splitlines()[1:])}
    assert len(pairs) == 5 * 3 * 3 * (1 + 2)
    drop = results["paired"]["audio_other"]["psnr/rgb"]["face"]
    mean, clip = (pairs["ours", "audio_other", "psnr/rgb", "face", name] for name in ("", "c1"))
    assert float(mean[6]) == drop["mean"] and float(mean[7]) == drop["standard_error"]
    assert float(clip[6]) == drop["clips"]["c1"]["mean"] and clip[5] == "p1"
    assert (run / "eval/self/paired.csv").read_text() == paired_csv(results)
    assert (run / "eval/self/table.csv").read_text() == values_csv(results)
    text = markdown(results)
    assert formatted(results["values"]["ours"]["psnr/rgb"]["mouth"]["mean"], 2) in text
    columns = {line.count("|") for line in text.split("\n\n")[1].splitlines()}
    assert columns == {11}


def test_the_headline_says_what_the_numbers_say(results: dict[str, Any]) -> None:
    drop = results["paired"]["audio_shifted"]["psnr/rgb"]["mouth"]
    assert "follows it" in headline(results)
    drop["mean"], drop["standard_error"] = 0.3, 0.2  # less than two standard errors
    assert "no sign" in headline(results)
    results["paired"]["nearest"]["psnr/rgb"]["face"]["mean"] = -1.25
    assert "1.25 dB further from" in headline(results)


def test_missing_or_foreign_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JaxtalkError, match="make it with"):
        write_protocol_report(tmp_path)
    (tmp_path / "results.json").write_text('{"schema": 99}')
    with pytest.raises(JaxtalkError, match="schema 99"):
        write_protocol_report(tmp_path)


def test_error_map_is_dark_where_right_and_bright_where_wrong() -> None:
    truth = np.full((2, 2, 3), 100, np.uint8)
    image = truth.copy()
    image[0, 1] = 100 + 255 // 4
    image[1, 1] = (130, 100, 100)
    colours = pictures.error_map(truth, image).astype(int).sum(-1)
    assert colours[0, 0] == colours[1, 0] < 10 and colours[0, 1] > 500
    assert colours[0, 0] < colours[1, 1] < colours[0, 1]


def test_shown_frames_are_even_and_end_with_the_worst() -> None:
    shown = pictures.shown_frames(np.array([9, 8, np.nan, 3, 7, 7, 7, 7, 7.0]))
    assert [index for index, _ in shown] == [0, 2, 4, 6, 8, 3] and shown[-1][1]


def test_mouth_strip_crops_around_the_boxes(tmp_path: Path) -> None:
    frames = np.zeros((2, 40, 40, 3), np.uint8)
    boxes = np.array([[4.0, 10, 12, 16], [28, 20, 36, 26]])
    frames[0, 12:14, 7:9], frames[1, 22:24, 31:33] = 255, 255  # the centres
    pictures.write_mouth_strip(tmp_path / "strip.png", [frames, frames // 2], boxes)
    strip = np.asarray(Image.open(tmp_path / "strip.png"))
    cells = [strip[:96, :96], strip[:96, 98:194], strip[98:194, :96], strip[98:194, 98:194]]
    for cell, level in zip(cells, (255, 255, 127, 127), strict=True):
        row, column = np.unravel_index(cell[..., 0].argmax(), cell.shape[:2])
        assert abs(row - 48) < 10 and abs(column - 48) < 10 and abs(int(cell.max()) - level) < 40


def test_large_pictures_are_embedded_smaller(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (300, 300, 3), np.uint8)).save(tmp_path / "noise.png")
    Image.fromarray(np.zeros((300, 300, 3), np.uint8)).save(tmp_path / "flat.png")
    assert embedded(tmp_path / "noise.png").startswith("data:image/jpeg")
    assert embedded(tmp_path / "flat.png").startswith("data:image/png")
    assert len(embedded(tmp_path / "noise.png")) < (tmp_path / "noise.png").stat().st_size


def test_charts_take_their_colours_from_the_page() -> None:
    chart = line_chart({"a": ([0, 1, 2], [1.0, None, 3.0]), "b": ([0, 2], [2.0, 2.0])}, "x", "y")
    for text in chart.values():
        assert text.startswith("<svg viewBox") and "var(--series-0)" in text and "var(--series-1)" in text
        assert not re.search(r"#0[1-7]0[1-7]0[1-7]", text)  # none of the colours that stood for variables
        assert "background" not in text and "#ffffff" not in text
    with pytest.raises(ValueError, match="holds"):
        line_chart({str(i): ([0], [0.0]) for i in range(5)}, "x", "y")
