"""Many synthetic clips at once."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from pathlib import Path

from jaxtalk.clip import Clip, ClipError
from jaxtalk.progress import bar
from jaxtalk.synthetic.speaker import GENERATOR_VERSION, write_speaker


def write_corpus(
    folder: str | os.PathLike[str],
    identities: int,
    utterances_per_identity: int,
    seconds: float,
    size: int,
    seed: int = 0,
    *,
    processes: int = 1,
) -> list[Path]:
    """Writes `identities` x `utterances_per_identity` clips into `folder` and returns their paths, by identity.

    Person i is identity `seed * 10000 + i`; no two clips of a corpus say the same. A clip that is there already with
    the same settings is kept, so an interrupted call goes on where it stopped.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    jobs: list[tuple[Path, dict[str, int | float]]] = []
    for i in range(identities):
        for j in range(utterances_per_identity):
            identity = seed * 10000 + i
            settings = {"identity": identity, "utterance": identity * 1000 + j, "seconds": seconds, "size": size}
            jobs.append((folder / f"synthetic_{identity:05d}_{j:03d}", settings))
    missing = [job for job in jobs if not _is_written(*job)]
    with bar("synthetic speakers", len(jobs), done=len(jobs) - len(missing)) as progress:
        if processes <= 1 or len(missing) <= 1:
            for job in missing:
                _write(job)
                progress.advance()
        else:
            # Forking a process that runs JAX's threads may hang; a spawned one starts clean.
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
                for done in concurrent.futures.as_completed([pool.submit(_write, job) for job in missing]):
                    done.result()
                    progress.advance()
    return [path for path, _ in jobs]


def _write(job: tuple[Path, dict[str, int | float]]) -> None:
    path, settings = job
    write_speaker(path, **settings)  # type: ignore[arg-type]


def _is_written(path: Path, settings: dict[str, int | float]) -> bool:
    """Whether the clip lies there whole, from this generator with these settings."""
    try:
        meta = Clip.open(path).meta
    except ClipError:
        return False
    wanted = {**settings, "generator": GENERATOR_VERSION}
    made = {**meta.source, "size": meta.size[0]}
    return all(made.get(key) == value for key, value in wanted.items())
