"""The command line: the commands, the version, and errors as one line and a number."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from alm_cli import __version__
from alm_cli.commands import (
    align,
    bench,
    completions,
    convert,
    decode,
    encode,
    generate_music,
    info,
    models,
    speak,
    transcribe,
    verify,
    voices,
)
from alm_cli.commands.spellings import WhisperSpellings
from alm_cli.deferred import defer_unused
from alm_cli.errors import AlmError
from alm_cli.jobs.interrupts import (
    BROKEN_PIPE,
    Interrupted,
    end_at_once,
    handle_signals,
    leave,
)
from alm_cli.jobs.report import printable


class Commands(TyperGroup):
    """The group of commands; what users did wrong becomes a line on standard error and a code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that `ctx` names."""
        try:
            return super().invoke(ctx)
        except AlmError as error:
            told = f"alm: {error.message}" + (f"\nhint: {error.hint}" if error.hint else "")
            typer.echo("\n".join(map(printable, told.split("\n"))), err=True)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError as error:
            _silence_stdout()
            raise typer.Exit(BROKEN_PIPE) from error
        except Interrupted as interrupted:
            raise typer.Exit(interrupted.exit_code) from interrupted


def _silence_stdout() -> None:
    """Nobody reads any more: let the flush at the end of the program go nowhere."""
    with suppress(OSError, ValueError):
        stdout = sys.stdout.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)


app = typer.Typer(
    cls=Commands,
    help="Audio tokens: recordings in, token files out, and back.",
    no_args_is_help=True,
    add_help_option=False,
    # Its two options would import pydantic on every start; `alm completions` is there for them.
    add_completion=False,
    # Without markup and pretty tracebacks rich is not imported, which halves the time of --help.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"alm {__version__}")
        raise typer.Exit


def _help(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        typer.echo(ctx.get_help())
        raise typer.Exit


# The group has a --help of our own because Typer's imports pydantic when it is not given, which
# would take half the time of `alm encode --help`.
@app.callback()
def alm(
    version: Annotated[  # noqa: ARG001 - their callbacks answer
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
    help: Annotated[  # noqa: ARG001
        bool,
        typer.Option(
            "-h", "--help", callback=_help, is_eager=True, help="Show this message and exit."
        ),
    ] = False,
) -> None:
    """Audio tokens: recordings in, token files out, and back."""


app.command()(encode.encode)
app.command()(decode.decode)
app.command(cls=WhisperSpellings)(transcribe.transcribe)
app.command()(align.align)
app.command()(speak.speak)
app.command()(voices.voices)
app.command()(generate_music.generate_music)
app.command()(convert.convert)
app.command()(info.info)
app.command()(verify.verify)
app.add_typer(bench.app, name="bench")
app.add_typer(models.app, name="models")
app.command(hidden=True)(completions.completions)


def main() -> NoReturn:
    """Run `alm` as a program: with signals handled, and an end that waits for nobody."""
    handle_signals(end_at_once)
    completions.answer_shells()
    defer_unused()
    try:
        app(prog_name="alm")
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 0)
    leave(0)
