"""Errors that a user can mend, and the one place that turns them into a line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNREACHABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


class JaxtalkError(Exception):
    """A problem that the user can mend. The message is one line: what, where (file, frame, key), and the mend."""


@contextlib.contextmanager
def reported_errors() -> Iterator[None]:
    """Prints a `JaxtalkError` as one line on stderr and exits with code 2; other errors keep their traceback.

    A full disk and a place that cannot be written to are the user's to mend, too, and reported the same way.
    """
    try:
        yield
    except JaxtalkError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        where = error.filename or "the output"
        if error.errno in _FULL:
            print(f"error: no space left on the device while writing {where}; free some and run again", file=sys.stderr)
        elif error.errno in _UNREACHABLE:
            print(f"error: {where}: {error.strerror}; name a place that you may write to", file=sys.stderr)
        else:
            raise
        sys.exit(2)
