"""`alm models`: list the catalogue, show a card, pull the files, tell where they are."""

from __future__ import annotations

import json as jsons
from typing import Annotated

import typer

from alm_cli.catalog import CATALOG, ModelCard, find_card
from alm_cli.commands import options
from alm_cli.commands.facts import card_facts
from alm_cli.commands.facts import show as show_facts
from alm_cli.errors import ModelError
from alm_cli.jobs.report import JSON_VERSION

app = typer.Typer(help="List, show, pull and locate models.", invoke_without_command=True)

Name = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=options.model_names, show_default=False)
]


@app.callback()
def models(ctx: typer.Context, json: options.Json = False) -> None:
    """List, show, pull and locate models."""
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
def pull(name: Name) -> None:
    """Fetch the files of a model, so that it works without a network."""
    from alm_cli.checkpoints.fetch import fetch

    typer.echo(fetch(find_card(name)))


@app.command("path")
def path(name: Name) -> None:
    """Print the folder of a model that is on this machine."""
    from alm_cli.checkpoints.fetch import locate

    folder = locate(find_card(name))
    if folder is None:
        raise ModelError(f"{name} is not on this machine", hint=f"run `alm models pull {name}`")
    typer.echo(folder)


_WIDTH = max(len(card.name) for card in CATALOG)


def _json(card: ModelCard) -> str:
    return jsons.dumps({"version": JSON_VERSION, "command": "models"} | card_facts(card))
