"""`alm generate-music`: words in, music out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from alm_cli.commands import music_options as own
from alm_cli.commands import options
from alm_cli.commands import sound_options as common
from alm_cli.commands.composing import Composing, check_prompt
from alm_cli.commands.given_texts import given_text
from alm_cli.commands.music_settings import MusicSettings
from alm_cli.commands.targets import Target, check_stdout, target_of
from alm_cli.errors import InputError, UsageError
from alm_cli.jobs.report import make_report

if TYPE_CHECKING:
    from alm_cli.files.texts import Record


def generate_music(
    prompt: own.Prompt = None,
    file: own.File = None,
    output: common.Output = None,
    model: own.Model = own.DEFAULT_MODEL,
    duration: own.Duration = 10.0,
    seed: common.Seed = None,
    guidance: own.Guidance = None,
    temperature: common.Temperature = None,
    top_k: common.TopK = None,
    top_p: common.TopP = None,
    melody: own.Melody = None,
    continue_: own.Continue = None,
    loop: own.Loop = False,
    variations: own.Variations = 1,
    format: common.Format = None,
    stream: own.Stream = False,
    batch: own.BatchFile = None,
    batch_size: own.BatchSize = 4,
    save_tokens: own.SaveTokens = None,
    from_tokens: own.FromTokens = None,
    save_score: own.SaveScore = None,
    accept_license: common.AcceptLicense = False,
    skip_existing: common.SkipExisting = False,
    overwrite: options.Overwrite = False,
    device: options.Device = options.AUTO,
    dtype: common.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make music that follows words, or many pieces of it."""
    target = target_of(output, batch, what="prompt", skip=skip_existing, overwrite=overwrite)
    target = _numbered(target, variations, stream=stream, from_tokens=from_tokens)
    settings = MusicSettings(
        model=model,
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        duration_s=duration,
        guidance=guidance,
        melody=melody,
        before=continue_,
        loop=loop,
        format=format,
        stream=stream or target.output is None,
        save_tokens=save_tokens,
        from_tokens=from_tokens,
        save_score=save_score,
        accept_license=accept_license,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        threads=threads,
    )
    check_stdout(target, json=json)
    records = list(_varied(_records(prompt or (), file, batch, from_tokens), variations))
    if from_tokens is None:
        options.check_model(model)
    report = make_report(
        "generate-music",
        sys.stderr,
        sys.stdout if json else None,
        quiet=quiet,
        verbose=verbose,
        long=True,
    )
    summary = Composing(settings, target, records, report).run()
    raise typer.Exit(summary.exit_code)


def _numbered(target: Target, variations: int, *, stream: bool, from_tokens: str | None) -> Target:
    """The target of so many variations. UsageError: there cannot be many."""
    if stream and (target.many or variations > 1):
        raise UsageError("--stream is for one piece of music")
    if variations == 1:
        return target
    if from_tokens is not None:
        raise UsageError(
            "--from-tokens gives the sound of tokens, of which there are no variations"
        )
    if target.output is None:
        raise UsageError("--variations writes many files", hint="name the first, with -o FILE")
    return target if target.many else replace(target, many=True, numbered=True)


def _records(
    words: Sequence[str], file: str | None, batch: str | None, from_tokens: str | None
) -> list[Record]:
    """The prompts, from where the user says they are. UsageError: from nowhere, or twice."""
    from alm_cli.files.texts import MUSIC, Record, read_records

    text = given_text(words, file, (batch, from_tokens), command="generate-music", what="PROMPT")
    if batch is not None:
        return read_records(Path(batch), MUSIC)
    if from_tokens is not None:
        return [Record(from_tokens, "")]
    try:
        check_prompt(text or "")
    except InputError as error:
        raise UsageError(error.message, error.hint) from error
    return [Record("music", text or "")]


def _varied(records: Sequence[Record], variations: int) -> Iterator[Record]:
    """Each record so many times, with an ID of its own."""
    for record in records:
        for number in range(1, variations + 1):
            id = record.id if variations == 1 else f"{record.id}-{number}"
            yield replace(record, id=id, number=number)
