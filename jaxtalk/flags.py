"""Command-line flags of the scripts: what is wrong with one is told in one line, like every other error of the user."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from jaxtalk.errors import JaxtalkError, reported_errors


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """A `flags_parser` for `absl.app.run`: exit code 2 and one line for unknown flags, settings, values and files."""
    with reported_errors():
        try:
            rest = flags.FLAGS(list(arguments))
            for value in flags.FLAGS.flag_values_dict().values():
                getattr(value, "lock", None)  # a config file that cannot be loaded is told only when it is used
            return rest
        except flags.Error as error:
            raise JaxtalkError(f"{_line(error)}; --help lists the flags") from error
        except AttributeError as error:  # how ml_collections tells that a setting does not exist
            cause = error.args[0] if error.args else None
            if not isinstance(cause, KeyError):
                raise
            raise JaxtalkError(f"--config: no such setting: {_line(cause.args[0])}") from error
        except OSError as error:  # ml_collections' own word for a config file that is not there
            if error.errno is not None:
                raise
            raise JaxtalkError(f"--config: {_line(error.__cause__ or error)}") from error


def _line(message: object) -> str:
    return " ".join(str(message).split())
