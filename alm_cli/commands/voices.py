"""`alm voices`: the names that a speaker answers to."""

from __future__ import annotations

import json as jsons
from typing import Annotated

import typer

from alm_cli.commands import options
from alm_cli.commands import speak_options as own
from alm_cli.jobs.report import JSON_VERSION, printable

ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="A speaker that `alm models` lists, or the folder or file of one.",
        autocompletion=own.speakers,
    ),
]


def voices(model: ModelName = own.DEFAULT_MODEL, json: options.Json = False) -> None:
    """List the voices of a speaker, its own choice first."""
    options.check_model(model)
    from alm_cli.systems.speaker import load_speaker

    speaker = load_speaker(model, device="cpu")
    if json:
        told = {"version": JSON_VERSION, "command": "voices", "model": speaker.name}
        typer.echo(jsons.dumps(told | {"voices": list(speaker.voices), "rate": speaker.rate}))
        return
    for name in speaker.voices:
        typer.echo(printable(name))
    if not speaker.voices:
        typer.echo(f"{speaker.name} has no names for voices", err=True)
