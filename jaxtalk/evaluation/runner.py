"""Evaluation of a trained run: nothing but the run folder is needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from jaxtalk.config import config_sha256
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation.faces import face_finder
from jaxtalk.evaluation.protocols import load_protocol
from jaxtalk.evaluation.records import ClipResult, FewShot, Protocol, Settings, Subject, Unreadable
from jaxtalk.evaluation.rendering import POSES
from jaxtalk.evaluation.report import write_protocol_report
from jaxtalk.evaluation.results import assemble, write_text
from jaxtalk.evaluation.split import tested_split
from jaxtalk.evaluation.summary import headline
from jaxtalk.evaluation.tables import markdown, write_results
from jaxtalk.methods.api import Run, load_method
from jaxtalk.metrics import Suite
from jaxtalk.progress import console

VIDEO_SECONDS = 8.0


def evaluate(workdir: str | Path, protocol: str, **options: Any) -> dict[str, Any]:
    """Tests a finished run and returns what WORKDIR/eval/PROTOCOL/results.json holds (see `evaluation.results`).

    Writes results.json, tables, index.html, pictures and videos into that folder; an earlier evaluation is replaced
    only when the new one is complete. A clip that cannot be tested is told in the results; the others are tested.

    Args:
        workdir: the run folder.
        protocol: a name of `evaluation.protocols.PROTOCOLS`.
        options: what differs from `config.evaluation`; fields of `records.Settings`, and for `fewshot` a mapping of
            fields of `records.FewShot`. `pose="predicted"` writes into WORKDIR/eval/PROTOCOL-predicted.

    Raises:
        JaxtalkError: unknown protocol, pose or metric, no run there, a run that has not finished, nobody to test, no
            clip that could be tested.
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
    settings = _settings(config, protocol, options)
    named = plan.clips(run, method, settings)
    clips = [view for view in named if not isinstance(view, Unreadable)]
    failures = {view.name: view.reason for view in named if isinstance(view, Unreadable)}
    folder = results_folder(workdir, protocol, settings.pose)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)

    facts = _run_facts(run, last)
    with face_finder() as (find_faces, no_faces):
        suite = Suite(settings.metrics, find_faces, no_faces)
        subject = Subject(
            trained=run,
            method=method,
            clips=clips,
            audio_feature=method.audio_feature(config),
            suite=suite,
            settings=settings,
            run=facts,
            folder=partial,
        )
        tested = _tested(plan, subject, failures)
    split = tested_split(run, clips, settings.allow_seen)
    results = assemble(plan, tested, facts, settings, suite, split, failures)
    write_results(partial / "results.json", results)
    write_text(partial / "speed.json", json.dumps(_speed(tested), indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    write_protocol_report(folder)
    return results


def _speed(clips: Sequence[ClipResult]) -> dict[str, Any]:
    """What depends on the machine, and therefore stands in no results.json."""
    import jax

    return {
        "device": jax.devices()[0].device_kind,
        "clips": {clip.clip: dict(clip.speed) for clip in clips if clip.speed},
    }


def _tested(plan: Protocol, subject: Subject, failures: dict[str, str]) -> list[ClipResult]:
    """The results of every clip that can be tested; why another cannot is added to `failures`."""
    results: list[ClipResult] = []
    for view in subject.clips:
        try:
            results.append(plan.evaluate_clip(subject, view))
        except JaxtalkError as error:
            failures[view.name] = str(error)
            console.print(f"clip {view.name} is left out: {error}", highlight=False, soft_wrap=True)
    return results


def results_folder(workdir: str | Path, protocol: str, pose: str = "gt") -> Path:
    """WORKDIR/eval/PROTOCOL, and a place of its own for frames at predicted poses."""
    return Path(workdir) / "eval" / (protocol if pose == "gt" else f"{protocol}-{pose}")


def _settings(config: ml_collections.ConfigDict, protocol: str, options: Mapping[str, Any]) -> Settings:
    """What the config says of evaluation, or what was asked instead."""
    asked = {name: value for name, value in options.items() if value is not None}
    fewshot = asked.pop("fewshot", {})
    told = config.evaluation
    settings = Settings(
        **{
            "max_frames": told.max_frames,
            "video_seconds": VIDEO_SECONDS,
            "test_seconds": config.data.test_seconds,
            "guard_seconds": config.data.guard_seconds,
            "source_seconds": told.get("source_seconds", 0.0),
            "metrics": tuple(told.get("metrics", ())),
            "fewshot": _fewshot(config, fewshot) if protocol == "fewshot" else None,
            **{name: tuple(value) if isinstance(value, list) else value for name, value in asked.items()},
        }
    )
    if settings.max_frames < 0:
        raise JaxtalkError(
            f"--max_frames: {settings.max_frames} is below 0; give a number of frames, or 0 for all test frames"
        )
    if settings.source_seconds < 0:
        raise JaxtalkError(f"--source_seconds: {settings.source_seconds:g} is below 0; 0 takes a clip's first frame")
    if settings.pose not in POSES:
        raise JaxtalkError(f"--pose: {settings.pose!r} is unknown; use {' or '.join(POSES)}")
    return settings


def _fewshot(config: ml_collections.ConfigDict, asked: Mapping[str, Any]) -> FewShot:
    """What the config says, or what was asked instead; each length and each number of steps once, in order."""
    told = {**config.evaluation.get("fewshot", {}), **asked}
    return FewShot(
        seconds=tuple(sorted({float(seconds) for seconds in told.get("seconds", ())})),
        steps=tuple(sorted({int(steps) for steps in told.get("steps", ())})),
        from_scratch=told.get("from_scratch", False),
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
