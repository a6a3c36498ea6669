"""Imports point one way, systems do not know each other, and heavy libraries stay out of the core."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxtalk"

# A package may import those before it, never those after it.
ORDER = (
    "errors",
    "flags",
    "progress",
    "clip",
    "config",
    "ops",
    "media",
    "nn",
    "weights",
    "losses",
    "audio",
    "faces",
    "metrics",
    "preparation",
    "synthetic",
    "datasets",
    "input",
    "rays",
    "methods.api",
    "few_shot",
    "methods",
    "training",
    "synthesis",
    "evaluation",
    "bench",
    "experiment",
    "cli",
)
MODULES = sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> set[str]:
    """Dotted names of jaxtalk modules that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("jaxtalk.")}


def _rank(parts: tuple[str, ...] | list[str]) -> int:
    """Place in ORDER of a module, by the longest of its prefixes that has one."""
    names = (".".join(parts[:length]) for length in (2, 1))
    return ORDER.index(next(name for name in names if name in ORDER))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        return
    assert parts[0] in ORDER, f"{parts[0]}: give the new package its place in ORDER"
    for name in _imports(path):
        target = name.split(".")[1:]
        if target == ["__version__"]:
            continue
        assert _rank(target) <= _rank(parts), f"{path} imports {name}, which stands after it"
        if parts[0] == target[0] == "methods" and len(parts) > 2:
            assert target[1] in (parts[1], "api"), f"{path}: a system imports another: {name}"


def test_packages_have_no_grab_bags() -> None:
    assert not [path for path in MODULES if path.name in ("utils.py", "types.py", "helpers.py", "misc.py")]


def test_core_imports_neither_tensorflow_nor_mediapipe() -> None:
    """What training, synthesis and evaluation import runs in an environment without the extras."""
    modules = ["jaxtalk.cli", "jaxtalk.experiment", "jaxtalk.training.run", "jaxtalk.evaluation.runner"]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "bad = {'tensorflow', 'mediapipe', 'cv2', 'torch'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
