"""The pages that show a run: one for each evaluation, one for the whole run. All they say is read from files.

Pictures and charts are inside the page; videos stay files beside it, linked by relative paths, so that a run folder
can be moved, zipped and served as it is.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from jaxtalk import __version__
from jaxtalk.evaluation import fewshot_tables, metric_tables
from jaxtalk.evaluation.charts import dot_chart, line_chart
from jaxtalk.evaluation.published_tables import NOTE as PAPERS_NOTE
from jaxtalk.evaluation.published_tables import published_tables
from jaxtalk.evaluation.results import formatted, read_results, write_text
from jaxtalk.evaluation.statistics import clearly_above_zero
from jaxtalk.evaluation.summary import headline, tiles
from jaxtalk.media.video import read_frames

_EMBED_BYTES = 120_000  # larger pictures are embedded as JPEG
_POSTER_FRAME = 12  # of a video, which stands for it until it plays
_FILES = ("results.json", "table.csv", "paired.csv", "table.md")
_PREVIEWS = 6  # of each picture drawn during training
_PANELS = {
    "truth": "Ground truth",
    "ours": "Ours",
    "adapted": "Adapted",
    "error": "Error",
    "before": "Before adaptation",
    "scratch": "From scratch",
    "speech": "Its own speech",
    "audio_own": "Its own speech",
    "flipped": "Flipped pose",
    "audio_shifted": "Late speech",
    "nearest": "Nearest frame",
    "copy": "Nearest frame",
    "mean": "Mean frame",
}
_CHARTED = ("ours", "adapted", "audio_shifted", "speech", "scratch", "nearest", "copy")


def write_protocol_report(folder: str | Path) -> Path:
    """Writes FOLDER/index.html for the results.json in an evaluation's folder. Raises `JaxtalkError` without one."""
    folder = Path(folder)
    results = read_results(folder / "results.json")
    workdir = folder.parent.parent
    page = _page(
        title=f"{results['run']['name']}: {results['title'].lower()} evaluation",
        run=results["run"],
        evaluations=[_evaluation(folder, folder)],
        training=_training(workdir),
        config=_config(workdir),
    )
    write_text(folder / "index.html", page)
    return folder / "index.html"


def write_run_report(workdir: str | Path, samples: Sequence[Path] = ()) -> Path:
    """Writes WORKDIR/report/index.html: sample videos, every evaluation of the run, training curves, previews, config.

    Args:
        workdir: the run folder.
        samples: videos to show, in the run folder or anywhere else on the same disk.
    """
    workdir = Path(workdir)
    folder = workdir / "report"
    evaluations = [_evaluation(path.parent, folder) for path in sorted(workdir.glob("eval/*/results.json"))]
    run = evaluations[0]["results"]["run"] if evaluations else _bare_run(workdir)
    page = _page(
        title=run["name"],
        run=run,
        samples=[{"name": Path(path).stem, **_video(Path(path), folder)} for path in samples],
        evaluations=evaluations,
        training=_training(workdir),
        previews=_previews(workdir),
        config=_config(workdir),
    )
    write_text(folder / "index.html", page)
    return folder / "index.html"


def page_environment(difference: Callable[..., str]) -> jinja2.Environment:
    """Where the templates of all pages are, and how they write numbers and paired differences."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxtalk.evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": formatted, "difference": difference}
    return environment


def _page(**content: Any) -> str:
    environment = page_environment(fewshot_tables.difference)
    environment.tests["clearly_above_zero"] = clearly_above_zero
    empty: dict[str, Any] = {"samples": [], "previews": []}
    return environment.get_template("page.html").render({**empty, **content}, version=__version__)


def _video(path: Path, page_folder: Path) -> dict[str, str]:
    """A video's link, and one of its pictures to stand there until it plays."""
    picture = next((frame for i, (_, frame) in enumerate(read_frames(path)) if i == _POSTER_FRAME), None)
    if picture is None:  # a shorter video
        picture = next(frame for _, frame in read_frames(path))
    return {"path": _relative(path, page_folder), "poster": _data_uri(Image.fromarray(picture))}


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(Path(path).resolve(), folder.resolve())).as_posix()


def _evaluation(folder: Path, page_folder: Path) -> dict[str, Any]:
    """What the template needs of one evaluation; links are relative to the page's folder."""
    results = read_results(folder / "results.json")
    clips = []
    for name, clip in results["clips"].items():
        videos = [{**video, **_video(folder / video["path"], page_folder)} for video in clip["videos"]]
        clips.append({"name": name, **clip, "videos": videos, **_exhibits(folder, results, name)})
    names = [name for name in _FILES if (folder / name).is_file()]
    found: dict[str, Any] = {
        "results": results,
        "headline": headline(results),
        "tiles": tiles(results),
        "clips": clips,
        "files": {name: _relative(folder / name, page_folder) for name in names},
        "labels": {row["name"]: row["label"] for row in results["rows"]},
        "metric_tables": metric_tables.metric_tables(results),
        "warnings": metric_tables.warnings(results),
        "missing": metric_tables.missing(results),
        "speed": _speed(folder),
        "people_chart": _people_chart(results),
    }
    if results["protocol"] == "fewshot":
        people, tables = fewshot_tables.by_identity(results), fewshot_tables.paper_tables(results)
        found |= {"tables": tables, "people": people, "curve": _curve(results)}
        found["published"] = fewshot_tables.NOT_COMPARABLE
    else:
        found |= {"differences": metric_tables.differences(results), "by_clip": metric_tables.by_clip(results)}
        found |= {"papers": published_tables(results["protocol"]), "papers_note": PAPERS_NOTE}
    return found


def _speed(folder: Path) -> dict[str, Any]:
    """How long avatars took to make, and how fast they rendered, on the machine of the evaluation."""
    path = folder / "speed.json"
    return json.loads(path.read_text()) if path.is_file() else {"clips": {}}


def _exhibits(folder: Path, results: dict[str, Any], name: str) -> dict[str, Any]:
    """Pictures, close-ups and chart of a clip; none of a clip that was too short to test."""
    clip = results["clips"][name]
    if not clip["frames"]:
        return {"pictures": [], "mouths": {}, "chart": {}, "lips": {}}
    rows = [_PANELS[row].lower() for row in clip["mouths"]["rows"]]
    return {
        "pictures": [_picture(folder, results, name, picture) for picture in clip["pictures"]],
        "mouths": {"data": embedded(folder / clip["mouths"]["path"]), "rows": rows},
        "chart": _chart(results, name),
        "lips": _lips(results, name),
    }


def _picture(folder: Path, results: dict[str, Any], clip: str, picture: dict[str, Any]) -> dict[str, Any]:
    """One tested frame: its panels as data, each with its PSNR over the mouth where it has one."""
    metric = next(iter(results["metrics"]), "")
    frames, names = results["clips"][clip]["per_frame"], results["clips"][clip].get("panels", {})
    panels = []
    for panel, label in _PANELS.items():
        if panel not in picture["files"]:
            continue
        row = names.get(panel, panel)
        mouth = frames.get(row, {}).get(metric, {}).get("mouth") if row != "truth" else None
        value = mouth[picture["position"]] if mouth else None
        data = embedded(folder / picture["files"][panel])
        panels.append({"label": label, "row": panel, "data": data, "value": value})
    return {**picture, "panels": panels}


def embedded(path: Path) -> str:
    """A picture file as a data URI: as it is when small, else as JPEG."""
    data = path.read_bytes()
    if len(data) > _EMBED_BYTES:
        with Image.open(path) as image:
            return _data_uri(image.convert("RGB"))
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _chart(results: dict[str, Any], clip: str) -> dict[str, str]:
    """Mouth PSNR over time: ours with the true speech, with the wrong one, and the best copy; none without a truth."""
    metric = next(iter(results["metrics"]), "")
    facts = results["clips"][clip]
    series = {
        label: (facts["times"], facts["per_frame"][row][metric]["mouth"])
        for row, label in _drawn(results, facts, _CHARTED)
        if "mouth" in facts["per_frame"].get(row, {}).get(metric, {})
    }
    if not series:
        return {}
    return line_chart(series, "time in the clip, s", "PSNR of the mouth, dB", markers=len(facts["times"]) <= 60)


def _lips(results: dict[str, Any], clip: str) -> dict[str, str]:
    """How wide the mouth opens over time, in truth and render; nothing where nobody looked for faces."""
    facts = results["clips"][clip]
    found = [pair for pair in _drawn(results, facts, ("truth", *_CHARTED[:4])) if pair[0] in facts["lips"]]
    series = {label: (facts["times"], facts["lips"][row]) for row, label in found}
    if len(series) < 2:
        return {}
    return line_chart(series, "time in the clip, s", "lip opening / eye distance", markers=len(facts["times"]) <= 60)


def _drawn(results: dict[str, Any], facts: dict[str, Any], panels: Sequence[str]) -> list[tuple[str, str]]:
    """(row, label) of the panels that a clip has."""
    names, labels = facts.get("panels", {}), {row["name"]: row["label"] for row in results["rows"]}
    rows = {panel: names.get(panel, panel) for panel in panels}
    return [(row, _PANELS[panel] if names else labels[row]) for panel, row in rows.items() if row in labels]


def _people_chart(results: dict[str, Any]) -> dict[str, str]:
    """PSNR of each person's mouth: ours, and what it must beat; nothing of a single person."""
    metric, rows = next(iter(results["metrics"]), ""), {row["name"]: row for row in results["rows"]}
    subject = rows[results["subject_row"]]
    wanted = [subject["name"]] + [
        row["name"]
        for row in rows.values()
        if row["kind"] == "baseline" and row["seconds"] == subject["seconds"] and row["name"] != "plate"
    ]
    cells = {row: results["values"][row].get(metric, {}).get("mouth") for row in wanted}
    found = {rows[row]["label"]: cell["identities"] for row, cell in cells.items() if cell}
    people = list(next(iter(found.values()), {}))
    if len(people) < 2:
        return {}
    return dot_chart(
        people, {label: [values.get(p) for p in people] for label, values in found.items()}, "PSNR of the mouth, dB"
    )


def _curve(results: dict[str, Any]) -> dict[str, Any] | None:
    """Face PSNR over steps for the length that the page speaks of; None where there is but one number of steps."""
    seconds = next(row["seconds"] for row in results["rows"] if row["name"] == results["subject_row"])
    rows = [row for row in results["rows"] if row["seconds"] == seconds]

    def values(*variants: str) -> dict[int, float | None]:
        found = {row["steps"]: row["name"] for row in rows if row["variant"] in variants}
        return {steps: results["values"][name]["psnr/rgb"]["face"]["mean"] for steps, name in sorted(found.items())}

    adapted = values("before", "adapted")
    if len(adapted) < 2:
        return None
    series: dict[str, tuple[list[float], list[float | None]]] = {}
    for label, line in (("Adapted", adapted), ("From scratch", values("scratch"))):
        if line:
            series[label] = (list(map(float, line)), list(line.values()))
    copy = next(row["name"] for row in rows if row["variant"] == "copy")
    level = results["values"][copy]["psnr/rgb"]["face"]["mean"]
    series["Nearest frame"] = ([float(min(adapted)), float(max(adapted))], [level, level])
    chart = line_chart(series, "steps of adaptation", "PSNR of the face, dB", markers=True)
    return {"seconds": f"{seconds:g}", "chart": chart}


def _training(workdir: Path) -> list[dict[str, Any]]:
    """A chart of the losses of each stage, from metrics.jsonl."""
    path = workdir / "metrics.jsonl"
    curves: dict[str, dict[str, tuple[list[float], list[float | None]]]] = {}
    for text in path.read_text().splitlines() if path.is_file() else ():
        line = json.loads(text)
        for key, value in line.items():
            if key == "loss" or key.endswith("/loss"):
                phases = curves.setdefault(line["stage"], {})
                x, y = phases.setdefault(key.removesuffix("/loss"), ([], []))
                x.append(line["step"])
                y.append(value)
    return [
        {"stage": stage, "chart": line_chart(dict(list(phases.items())[:4]), "step", "loss", logarithmic=True)}
        for stage, phases in curves.items()
    ]


def _previews(workdir: Path) -> list[dict[str, Any]]:
    """Pictures drawn during training, a few of each name from first to last."""
    strips = []
    for folder in sorted(workdir.glob("stages/*/previews")):
        names: dict[str, list[Path]] = {}
        for path in sorted(folder.glob("*.png")):
            names.setdefault(path.stem.rpartition("-")[0], []).append(path)
        for name, paths in names.items():
            last = len(paths) - 1
            keep = sorted({round(i * last / (_PREVIEWS - 1)) for i in range(_PREVIEWS)})
            pictures = [{"data": embedded(paths[i]), "step": int(paths[i].stem.rpartition("-")[2])} for i in keep]
            strips.append({"stage": folder.parent.name, "name": name.replace("_", " "), "pictures": pictures})
    return strips


def _config(workdir: Path) -> str:
    path = workdir / "config.json"
    return json.dumps(json.loads(path.read_text()), indent=2) if path.is_file() else ""


def _bare_run(workdir: Path) -> dict[str, Any]:
    """What is known of a run that has not been evaluated."""
    config = json.loads(_config(workdir) or "{}")
    versions = workdir / "versions.json"
    return {
        "name": workdir.resolve().name,
        "method": config.get("method", ""),
        "seed": config.get("seed"),
        "size": config.get("data", {}).get("size"),
        "step": None,
        "config_sha256": None,
        "state_sha256": None,
        "versions": json.loads(versions.read_text()) if versions.is_file() else {},
    }
