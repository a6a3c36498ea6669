"""Processes that work off tasks: all results, tasks that kill their process, and processes that outlive nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxtalk.preparation.corpora import workers
from jaxtalk.preparation.corpora.workers import Died, in_processes


def work(task: object) -> object:
    """What the processes do: a number is squared, a word is obeyed."""
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "exit":
        os._exit(3)
    if task == "raise":
        raise ValueError("nobody catches this")
    if task == "chat":
        print("to stdout")
        print("to stderr", file=sys.stderr)
    if isinstance(task, tuple):
        return os.environ.get(task[0])
    if isinstance(task, Path):
        task.write_text(str(os.getpid()))
        time.sleep(60)
    return (task * task, os.getpid()) if isinstance(task, int) else task


def test_every_task_is_done_once_and_processes_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_TASKS_OF_ONE", 4)
    results = dict(in_processes(work, range(11), 2))
    assert {index: square for index, (square, _) in results.items()} == {i: i * i for i in range(11)}
    processes = [process for _, process in results.values()]
    assert os.getpid() not in processes
    assert 3 <= len(set(processes)) <= 5  # each does four tasks at most
    assert max(processes.count(process) for process in processes) <= 4


def test_a_process_that_dies_costs_its_task_only(capfd: pytest.CaptureFixture[str]) -> None:
    tasks = [2, "die", "chat", "raise", "exit", 3]
    results = dict(in_processes(work, tasks, 2))
    assert results[1] == Died(-signal.SIGKILL) and results[3] == Died(1) and results[4] == Died(3)
    assert results[0][0] == 4 and results[2] == "chat" and results[5][0] == 9
    assert capfd.readouterr() == ("", "")


def test_variables_are_set_for_the_processes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTALK_TEST_OURS", "user's")
    monkeypatch.delenv("JAXTALK_TEST_NEW", raising=False)
    environment = {"JAXTALK_TEST_OURS": "other", "JAXTALK_TEST_NEW": "new"}
    results = dict(in_processes(work, [("JAXTALK_TEST_OURS",), ("JAXTALK_TEST_NEW",)], 1, environment))
    assert results == {0: "user's", 1: "new"}
    assert "JAXTALK_TEST_NEW" not in os.environ


def test_nothing_to_do_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_start", None)
    assert list(in_processes(work, [], 4)) == []


def _gone(process: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _wait(condition: object, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.05)
    return condition()  # type: ignore[operator]


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks at processes in /proc")
def test_processes_end_with_an_interrupted_and_with_a_killed_caller(tmp_path: Path) -> None:
    results = in_processes(work, [1, tmp_path / "first"], 2)
    next(results)
    assert _wait(lambda: (tmp_path / "first").is_file() and (tmp_path / "first").read_text())
    results.close()
    assert _gone(int((tmp_path / "first").read_text()))

    code = (
        "import sys; from pathlib import Path\n"
        "from tests.test_preparation_workers import work\n"
        "from jaxtalk.preparation.corpora.workers import in_processes\n"
        "if __name__ == '__main__': list(in_processes(work, [Path(sys.argv[1])], 1))\n"
    )
    script = tmp_path / "caller.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, str(script), str(tmp_path / "second")], env=environment) as caller:
        assert _wait(lambda: (tmp_path / "second").is_file() and (tmp_path / "second").read_text())
        caller.kill()
    assert _wait(lambda: _gone(int((tmp_path / "second").read_text())))
