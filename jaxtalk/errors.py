"""Errors that a user can mend, and the one place that turns them into a line and an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


class JaxtalkError(Exception):
    """A problem that the user can mend. The message is one line: what, where (file, frame, key), and the mend."""


@contextlib.contextmanager
def reported_errors() -> Iterator[None]:
    """Prints a `JaxtalkError` as one line on stderr and exits with code 2; other errors keep their traceback.

    A full disk is a user's problem too: `OSError` with errno ENOSPC is reported the same way.
    """
    import errno

    try:
        yield
    except JaxtalkError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = error.filename or "the output folder"
        print(f"error: no space left on the device while writing {where}; free some and run again", file=sys.stderr)
        sys.exit(2)
