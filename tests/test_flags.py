"""What is wrong in a script's flags, and where an output cannot be written: one line and exit code 2."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxtalk.errors import reported_errors

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--config is missing"),
        (["--config=configs/absent.py"], "configs/absent.py"),
        (["--config=configs/ad_nerf.py:tin"], "no variant 'tin'"),
        (["--config=configs/ad_nerf.py:tiny,sise=3"], "sise=3: no such setting"),
        (["--config=configs/ad_nerf.py:tiny", "--config.train.logevery=1"], 'Did you mean "log_every"'),
        (["--config=configs/ad_nerf.py:tiny", "--config.seed=abc"], "--config.seed=abc"),
        (["--wrokdir=runs/a"], "Did you mean: workdir"),
    ],
)
def test_a_wrong_flag_is_one_line(flags: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "train.py", f"--workdir={tmp_path}", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENOSPC])
def test_a_place_that_cannot_be_written_is_one_line(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, reported_errors():
        raise OSError(code, os.strerror(code), "clips/anna")
    told = capsys.readouterr().err
    assert caught.value.code == 2 and "clips/anna" in told and told.count("\n") == 1


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(FileNotFoundError), reported_errors():
        Path("/absent/file").read_text()
