"""What a verb is: its help with examples, one line for a user's error, and the words that users type already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jaxtalk.errors import reported_errors

FILE = click.Path(path_type=Path)


class Verb(click.Command):
    """A verb whose help keeps its examples as they are written, and whose `JaxtalkError` becomes one line."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")

    def invoke(self, ctx: click.Context) -> Any:
        with reported_errors():
            return super().invoke(ctx)


# What users of other systems type already; underscores do for hyphens, too.
_FAMILIAR = {
    "aud": "audio",
    "driven-audio": "audio",
    "driving-audio": "audio",
    "drv-aud": "audio",
    "drv-pose": "pose",
    "outfile": "out",
    "source-image": "image",
    "out-name": "out",
    "workspace": "workdir",
}


def _familiar(word: str) -> str:
    word = word.replace("_", "-")
    return _FAMILIAR.get(word, word)


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "token_normalize_func": _familiar,
    }
)
@click.version_option(package_name="jaxtalk", prog_name="jaxtalk")
def main() -> None:
    """From a talking video to a talking head.

    Training and evaluation have scripts of their own: train.py and eval.py.
    """


def verb(examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    return main.command(cls=Verb, examples=examples)
