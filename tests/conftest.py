"""Shared fixtures. Tests run on CPU; real clips are used where they lie beside the checkout."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiled programs are kept between runs of the tests, apart from the user's own.
os.environ.setdefault("JAXTALK_CACHE", str(Path(tempfile.gettempdir()) / "jaxtalk-tests"))

import pytest

from jaxtalk.clip import Clip
from tests.fake_clip import write_fake_clip


@pytest.fixture(scope="session")
def fake_clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Two seconds of a talking ball at 32 x 32; shared, so read only."""
    return write_fake_clip(tmp_path_factory.mktemp("clips") / "ball")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real clips; the test is skipped where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("JAXTALK_REAL_DATA", default))
    if not (path / "clips").is_dir():
        pytest.skip("no real clips here: set JAXTALK_REAL_DATA to a folder that has them")
    return path
