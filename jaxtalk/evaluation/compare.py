"""Several runs beside each other, of one protocol: which of them differ in what, and whether their numbers compare.

`compare_tables` makes tables of what is read and checked here, `compare_page` the files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation.results import formatted, read_results

_UNSHOWN = ("evaluation.",)  # of a config: how a run is tested, which its results say themselves
_LONGEST = 48  # characters of a setting's value


@dataclasses.dataclass(frozen=True)
class Entry:
    """The results of one run. `name` is unique among those that are compared."""

    name: str
    folder: Path  # of results.json and the pictures
    results: Mapping[str, Any]
    config: Mapping[str, Any]  # dotted key -> value; empty where the run's config is not beside its results

    @property
    def subject(self) -> str:
        """The row that the results speak of."""
        return self.results["subject_row"]


def read_entries(paths: Sequence[str | Path], protocol: str = "") -> list[Entry]:
    """The results of runs of one protocol.

    Args:
        paths: of each run its folder, the folder of an evaluation, or a results.json.
        protocol: the name of a folder in WORKDIR/eval; needed where the runs have several in common.

    Raises:
        JaxtalkError: less than two runs, a run twice, no evaluation there, or no protocol that all of them have.
    """
    if len(paths) < 2:
        raise JaxtalkError("compare: name at least two runs, e.g. jaxtalk compare runs/base runs/no_warp")
    found = [_evaluations(Path(path)) for path in paths]
    chosen = _protocol(paths, found, protocol)
    files = [evaluations[chosen] for evaluations in found]
    for i, file in enumerate(files):
        if file.resolve() in [other.resolve() for other in files[:i]]:
            raise JaxtalkError(f"compare: {paths[i]} is named twice; name each run once")
    results = [read_results(file) for file in files]
    names = [str(found["run"]["name"]) for found in results]
    unique = [name if names.count(name) == 1 else f"{name} ({path})" for name, path in zip(names, paths, strict=True)]
    return [
        Entry(name, file.parent, found, _config(file, found))
        for name, file, found in zip(unique, files, results, strict=True)
    ]


def _evaluations(path: Path) -> dict[str, Path]:
    """The results.json files that a path stands for, by the name of their protocol's folder."""
    file = path if path.is_file() else path / "results.json"
    if file.is_file():
        results = read_results(file)
        pose = results["settings"]["pose"]
        return {results["protocol"] if pose == "gt" else f"{results['protocol']}-{pose}": file}
    found = {file.parent.name: file for file in sorted(path.glob("eval/*/results.json"))}
    whole = {name: file for name, file in found.items() if not name.endswith(".partial")}
    if not whole:
        raise JaxtalkError(
            f"{path}: no evaluation here (neither results.json nor eval/PROTOCOL/results.json); "
            f"make one with eval.py --workdir={path}"
        )
    return whole


def _protocol(paths: Sequence[str | Path], found: Sequence[Mapping[str, Path]], wanted: str) -> str:
    """The protocol that is asked for, or the only one that all runs have."""
    if wanted:
        for path, evaluations in zip(paths, found, strict=True):
            if wanted not in evaluations:
                raise JaxtalkError(
                    f"{path}: no evaluation by {wanted!r}, only by {', '.join(evaluations)}; make it with "
                    f"eval.py --workdir={path} --protocol={wanted}"
                )
        return wanted
    shared = [name for name in found[0] if all(name in evaluations for evaluations in found)]
    if len(shared) == 1:
        return shared[0]
    told = "; ".join(f"{path}: {', '.join(names)}" for path, names in zip(paths, found, strict=True))
    if not shared:
        raise JaxtalkError(f"compare: the runs have no protocol in common ({told}); evaluate them by the same one")
    raise JaxtalkError(f"compare: the runs share {', '.join(shared)}; choose one with --protocol={shared[0]}")


def _config(file: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """The config that the results' run had, with dotted keys; nothing where it is not there or has been changed."""
    try:
        config = json.loads((file.resolve().parent.parent.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return _flat(config) if digest == results["run"]["config_sha256"] else {}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def differing_settings(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Dotted key -> a text for each run, of the settings in which their configs differ.

    A run without the key, or whose config is not known, has a dash.
    """
    keys = dict.fromkeys(key for entry in entries for key in entry.config if not key.startswith(_UNSHOWN))
    known = [entry for entry in entries if entry.config]
    differing = [key for key in keys if len({json.dumps(entry.config.get(key)) for entry in known}) > 1]
    return {key: [_text(entry.config[key]) if key in entry.config else "–" for entry in entries] for key in differing}


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Dotted key -> as few of its last words as tell it from the others."""
    short = {}
    for key in keys:
        words = key.split(".")
        ends = [".".join(words[i:]) for i in reversed(range(len(words)))]
        short[key] = next(
            end for end in ends if end == key or not any(k != key and f".{k}".endswith(f".{end}") for k in keys)
        )
    return short


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        text = str(value).lower()
    elif isinstance(value, float):
        text = f"{value:g}"
    else:
        text = ", ".join(map(_text, value)) if isinstance(value, list) else str(value)
    return (text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…") or "none"


def remarks(first: Entry, other: Entry) -> list[str]:
    """Why the numbers of a run do not compare with the first run's, a line each; empty where they do."""
    mine, theirs = first.results, other.results
    found = []
    if theirs["run"]["size"] != mine["run"]["size"]:
        found.append(f"frames of {theirs['run']['size']} pixels, not {mine['run']['size']}")
    labels = [next(row["label"] for row in r["rows"] if row["name"] == r["subject_row"]) for r in (mine, theirs)]
    if first.subject != other.subject:
        found.append(f"its row is “{labels[1]}”, not “{labels[0]}”")
    found += _clip_remarks(mine, theirs)
    found += [
        f"{name} is {_text(theirs['settings'].get(name))}, not {_text(mine['settings'].get(name))}"
        for name in ("source_seconds", "guard_seconds", "speech")
        if theirs["settings"].get(name) != mine["settings"].get(name)
    ]
    found += [
        f"it was trained on people of clip {clip}, whom the first run never saw"
        for clip in theirs["split"]["seen"]
        if clip not in mine["split"]["seen"]
    ]
    found += [
        f"{name} was defined in another way"
        for name, facts in theirs["metrics"].items()
        if name in mine["metrics"] and facts["definition"] != mine["metrics"][name]["definition"]
    ]
    return found or _baseline_remarks(first, other)


def _clip_remarks(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Which clips and frames are not those of the first run."""
    found = []
    for name in mine["clips"]:
        if name not in theirs["clips"]:
            reason = theirs["failures"].get(name, "")
            found.append(f"clip {name} was not tested{': ' * bool(reason)}{reason}")
        elif mine["split"]["manifest"]["clips"][name] != theirs["split"]["manifest"]["clips"][name]:
            found.append(f"clip {name} is not the same (its hash differs: other content, identity or size)")
        elif mine["clips"][name]["frames"] != theirs["clips"][name]["frames"]:
            counts = [len(results["clips"][name]["frames"]) for results in (theirs, mine)]
            told = f" ({counts[0]}, not {counts[1]})" if counts[0] != counts[1] else ""
            found.append(f"clip {name}: other frames were tested{told}")
    return found + [f"clip {name} was tested, too" for name in theirs["clips"] if name not in mine["clips"]]


def _baseline_remarks(first: Entry, other: Entry) -> list[str]:
    """Baselines learn nothing: where nothing else differs and they do, the avatars were made of other frames."""
    found = []
    for row in first.results["rows"]:
        if row["kind"] != "baseline":
            continue
        for metric, regions in first.results["values"][row["name"]].items():
            digits = first.results["metrics"][metric]["digits"]
            theirs = other.results["values"].get(row["name"], {}).get(metric, {})
            texts = [
                tuple(formatted(cells[region]["mean"], digits) for region in regions if region in theirs)
                for cells in (regions, theirs)
            ]
            if texts[0] != texts[1] and row["label"] not in found:
                found.append(row["label"])
    return [f"baseline “{label}” has other values: the avatars were made of other frames" for label in found]


def same_clips(first: Entry, other: Entry) -> list[str]:
    """The clips of which both runs were tested on the same frames."""
    mine, theirs = first.results, other.results
    entries = [results["split"]["manifest"]["clips"] for results in (mine, theirs)]
    return [
        name
        for name, clip in mine["clips"].items()
        if name in theirs["clips"]
        and entries[0][name] == entries[1][name]
        and clip["frames"] == theirs["clips"][name]["frames"]
        and clip["frames"]
    ]
