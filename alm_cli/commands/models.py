"""`alm models`: list the catalogue, show a card, pull, locate and convert files."""

from __future__ import annotations

import json as jsons
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from alm_cli.catalog import CATALOG, ModelCard, find_card
from alm_cli.commands import options, sound_options
from alm_cli.commands.facts import card_facts
from alm_cli.commands.facts import show as show_facts
from alm_cli.errors import InputError, ModelError
from alm_cli.jobs.report import JSON_VERSION, printable
from alm_cli.jobs.sinks import fresh_file, occupied

app = typer.Typer(help="List, show, pull, locate and convert models.", invoke_without_command=True)

Name = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=options.model_names, show_default=False)
]
Pickled = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT", help="A torch file, or the folder of one.", show_default=False
    ),
]
Target = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="A folder, for model.safetensors and its config.json, or a file ending in"
        " .safetensors.",
        show_default=False,
    ),
]


@app.callback()
def models(ctx: typer.Context, json: options.Json = False) -> None:
    """List, show, pull, locate and convert models."""
    if ctx.invoked_subcommand is None:
        list_models(json)


@app.command("list")
def list_models(json: options.Json = False) -> None:
    """List the models that alm knows."""
    for card in CATALOG:
        if json:
            typer.echo(_json(card))
        else:
            typer.echo(f"{card.name:<{_WIDTH}}  {card.note}")


@app.command("show")
def show(name: Name, json: options.Json = False) -> None:
    """Show what is known of a model."""
    card = find_card(name)
    typer.echo(_json(card) if json else f"{card.name}\n{show_facts(card_facts(card))}")


@app.command("pull")
def pull(name: Name, accept_license: sound_options.AcceptLicense = False) -> None:
    """Fetch the files of a model and of those it needs, so that it works without a network."""
    from alm_cli.checkpoints.fetch import fetch
    from alm_cli.checkpoints.licences import accept, require

    cards = [_with_files(name)]
    cards += map(find_card, cards[0].needs)
    for card in cards:
        if accept_license:
            accept(card)
        require(card)
    typer.echo([fetch(card) for card in cards][0])


@app.command("path")
def path(name: Name) -> None:
    """Print the folder of a model that is on this machine."""
    from alm_cli.checkpoints.fetch import locate

    folder = locate(_with_files(name))
    if folder is None:
        raise ModelError(f"{name} is not on this machine", hint=f"run `alm models pull {name}`")
    typer.echo(folder)


@app.command("convert")
def convert(
    checkpoint: Pickled,
    output: Target,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Write a pickled checkpoint as safetensors: the same tensors, no code.

    What config.json beside it, or the checkpoint itself, says of the model comes along.
    """
    from alm_cli.checkpoints.convert import open_pickle, write_safetensors
    from alm_cli.checkpoints.reader import open_checkpoint

    pickled = open_pickle(checkpoint)
    target = output if output.suffix == ".safetensors" else output / "model.safetensors"
    beside, settings = target.with_name("config.json"), pickled.settings
    if settings is not None and beside.is_file() and beside.read_bytes() == settings:
        settings = None
    for path in (target,) if settings is None else (target, beside):
        _refuse_occupied(path, pickled.checkpoint.files, overwrite)
    with fresh_file(target) as weights:
        write_safetensors(pickled.checkpoint, weights)
        if settings is not None:
            with fresh_file(beside) as file:
                file.write_bytes(settings)
    if json:
        facts: dict[str, Any] = {"input": str(checkpoint), "output": str(target)}
        facts |= {"tensors": len(pickled.checkpoint.shapes), "bytes": target.stat().st_size}
        facts |= {"sha256": open_checkpoint(target).sha256(), "left_out": pickled.left_out}
        typer.echo(_line(facts))
    else:
        typer.echo(target)
    if pickled.left_out:
        told = ", ".join(map(printable, pickled.left_out))
        typer.echo(f"left out, being neither weights nor settings: {told}", err=True)


def _refuse_occupied(path: Path, inputs: Iterable[Path], overwrite: bool) -> None:
    whole = frozenset(map(os.path.realpath, inputs))
    problem = occupied(path, whole, "overwrite" if overwrite else "refuse")
    if problem:
        raise InputError(problem, hint="--overwrite replaces files, -o names another place")


def _with_files(name: str) -> ModelCard:
    """The card of a model that has files."""
    card = find_card(name)
    if not card.source:
        raise ModelError(f"{name} has no files: it is a formula", hint="use it by its name")
    return card


_WIDTH = max(len(card.name) for card in CATALOG)


def _json(card: ModelCard) -> str:
    return _line(card_facts(card))


def _line(facts: dict[str, Any]) -> str:
    return jsons.dumps({"version": JSON_VERSION, "command": "models"} | facts)
