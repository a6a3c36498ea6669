"""`jaxtalk weights`: pretrained files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from jaxtalk.cli.verb import FILE, Verb, main
from jaxtalk.errors import JaxtalkError


@main.group()
def weights() -> None:
    """Pretrained files: list, get, convert and check them."""


@weights.command("list", cls=Verb, examples="jaxtalk weights list")
def weights_list() -> None:
    """What can be had, its licence, and whether it is here."""
    from rich.console import Console
    from rich.table import Table

    from jaxtalk.weights import REGISTER, cache_folder

    table = Table(title=f"pretrained files in {cache_folder()}")
    for title in ("name", "here", "licence", "what for"):
        table.add_column(title, overflow="fold")
    for entry in REGISTER.values():
        here = (cache_folder() / entry.file).is_file()
        table.add_row(entry.name, "yes" if here else "no", entry.licence, entry.purpose)
    Console().print(table)


@weights.command(
    "get",
    cls=Verb,
    examples="jaxtalk weights get ict_facekit\njaxtalk weights get lpips_alex --from alex.pth",
)
@click.argument("name")
@click.option("--from", "source", help="A file or folder of yours, or another URL, in place of the published one.")
def weights_get(name: str, source: str | None) -> None:
    """Put the pretrained file NAME into the cache: its hash checked, a network's file converted."""
    from jaxtalk.weights import get

    click.echo(get(name, source=source))


@weights.command(
    "convert",
    cls=Verb,
    examples="jaxtalk weights convert iresnet50 backbone.pth\njaxtalk weights convert vgg16 vgg16.pth --out vgg16.npz",
)
@click.argument("name")
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, help="The npz to write; the cache's when not given.")
def weights_convert(name: str, file: Path, out: Path | None) -> None:
    """Turn FILE with the weights of the network NAME (torch, safetensors or npz) into ours.

    Code in the file is never run. Every array has to be there, of the right shape, and none may be left over.
    """
    from jaxtalk.weights import check, convert_file

    path = convert_file(name, file, out)
    click.echo(f"{path}: {check(name, path)}")


@weights.command("check", cls=Verb, examples="jaxtalk weights check\njaxtalk weights check vgg16 lpips_vgg")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def weights_check(names: tuple[str, ...]) -> None:
    """Read files of the cache again: whole, finite, of the right shapes, and what they were made of.

    Without a NAME all that are here. Exit code 2 when one of them is damaged or absent.
    """
    from jaxtalk.weights import REGISTER, cache_folder, check

    here = tuple(name for name, entry in REGISTER.items() if (cache_folder() / entry.file).is_file())
    if not names and not here:
        click.echo(f"{cache_folder()}: nothing is here yet; see `jaxtalk weights list`")
    failed = False
    for name in names or here:
        try:
            click.echo(f"{name}: good, {check(name)}")
        except JaxtalkError as error:
            failed = True
            click.echo(f"{name}: {error}", err=True)
    sys.exit(2 if failed else 0)
