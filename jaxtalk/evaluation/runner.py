"""Evaluation of a trained run: nothing but the run folder is needed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from jaxtalk.config import config_sha256
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation.protocols import load_protocol
from jaxtalk.evaluation.records import FewShot, Settings, Subject
from jaxtalk.evaluation.rendering import POSES
from jaxtalk.evaluation.report import write_protocol_report
from jaxtalk.evaluation.results import assemble
from jaxtalk.evaluation.summary import headline
from jaxtalk.evaluation.tables import markdown, write_results
from jaxtalk.methods.api import Run, load_method

VIDEO_SECONDS = 8.0


def evaluate(
    workdir: str | Path,
    protocol: str,
    *,
    max_frames: int | None = None,
    video_seconds: float = VIDEO_SECONDS,
    pose: str = "gt",
    fewshot: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Tests a finished run and returns what WORKDIR/eval/PROTOCOL/results.json holds (see `evaluation.results`).

    Writes results.json, tables, index.html, pictures and videos into that folder; an earlier evaluation is replaced
    only when the new one is complete.

    Args:
        workdir: the run folder.
        protocol: a name of `evaluation.protocols.PROTOCOLS`.
        max_frames: test frames of each clip, evenly spaced, 0 for all; None takes the run's config.
        video_seconds: length of the comparison video of each clip; 0 for none.
        pose: `gt`, or `predicted`: frames at the pose that the avatar predicts of the speech, into
            WORKDIR/eval/PROTOCOL-predicted.
        fewshot: for the protocol of that name, what differs from `config.evaluation.fewshot`: seconds, steps,
            from_scratch, clips (folders of unseen people, instead of the run's held-out clips), fresh.

    Raises:
        JaxtalkError: unknown protocol or pose, no run there, a run that has not finished, a clip too short to split.
    """
    plan = load_protocol(protocol)
    workdir = Path(workdir)
    last = _last_line(workdir)

    from jaxtalk.training.run import open_run

    run = open_run(workdir)
    config = run.config
    method = load_method(config.method)
    if last["stage"] != method.stages(config)[-1].name:
        raise _unfinished(workdir)
    settings = _settings(config, max_frames, video_seconds, pose)
    if protocol == "fewshot":
        settings = dataclasses.replace(settings, fewshot=_fewshot(config, fewshot or {}))
    clips = plan.clips(run, method, settings)
    folder = results_folder(workdir, protocol, pose)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)

    facts = _run_facts(run, last)
    subject = Subject(
        trained=run,
        method=method,
        clips=clips,
        audio_feature=method.audio_feature(config),
        settings=settings,
        run=facts,
        folder=partial,
    )
    results = assemble(plan, [plan.evaluate_clip(subject, view) for view in clips], facts, settings)
    write_results(partial / "results.json", results)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    write_protocol_report(folder)
    return results


def results_folder(workdir: str | Path, protocol: str, pose: str = "gt") -> Path:
    """WORKDIR/eval/PROTOCOL, and a place of its own for frames at predicted poses."""
    return Path(workdir) / "eval" / (protocol if pose == "gt" else f"{protocol}-{pose}")


def _settings(config: ml_collections.ConfigDict, max_frames: int | None, video_seconds: float, pose: str) -> Settings:
    count = config.evaluation.max_frames if max_frames is None else max_frames
    if count < 0:
        raise JaxtalkError(f"--max_frames: {count} is below 0; give a number of frames, or 0 for all test frames")
    if pose not in POSES:
        raise JaxtalkError(f"--pose: {pose!r} is unknown; use {' or '.join(POSES)}")
    return Settings(
        max_frames=count,
        video_seconds=video_seconds,
        test_seconds=config.data.test_seconds,
        guard_seconds=config.data.guard_seconds,
        pose=pose,
    )


def _fewshot(config: ml_collections.ConfigDict, asked: Mapping[str, Any]) -> FewShot:
    """What the config says, or what was asked instead; each length and each number of steps once, in order."""
    told = {**config.evaluation.get("fewshot", {}), **asked}
    return FewShot(
        seconds=tuple(sorted({float(seconds) for seconds in told.get("seconds", ())})),
        steps=tuple(sorted({int(steps) for steps in told.get("steps", ())})),
        from_scratch=told.get("from_scratch", False),
        clips=tuple(map(str, told.get("clips", ()))),
        fresh=told.get("fresh", False),
    )


def _last_line(workdir: Path) -> dict[str, Any]:
    """The last line of metrics.jsonl, which a finished run closes with the hash of its state."""
    path = workdir / "metrics.jsonl"
    if not (workdir / "config.json").is_file():
        raise JaxtalkError(
            f"{workdir}: no run here (config.json is missing); make one with train.py --workdir={workdir}"
        )
    lines = path.read_text().splitlines() if path.is_file() else []
    try:
        last = json.loads(lines[-1])
    except (IndexError, ValueError):
        last = {}
    if "state_sha256" not in last:
        raise _unfinished(workdir)
    return last


def _unfinished(workdir: Path) -> JaxtalkError:
    return JaxtalkError(f"{workdir}: training has not finished; run train.py with this --workdir again to finish it")


def _run_facts(run: Run, last: dict[str, Any]) -> dict[str, Any]:
    versions = run.workdir / "versions.json"
    return {
        "name": run.workdir.resolve().name,
        "method": run.config.method,
        "seed": run.config.seed,
        "size": run.config.data.size,
        "step": last.get("step"),
        "config_sha256": config_sha256(run.config),
        "state_sha256": last["state_sha256"],
        "versions": json.loads(versions.read_text()) if versions.is_file() else {},
    }


def evaluate_and_print(workdir: str | Path, protocol: str, **options: Any) -> None:
    """`evaluate`, with the tables, the headline and where the page is on stdout."""
    from jaxtalk.training.compile_cache import enable_compile_cache

    enable_compile_cache()
    results = evaluate(workdir, protocol, **options)
    print(markdown(results))
    folder = results_folder(workdir, protocol, results["settings"]["pose"])
    print(f"{headline(results)}\nwrote {folder / 'index.html'}")
