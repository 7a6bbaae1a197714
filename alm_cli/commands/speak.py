"""`alm speak`: text in, speech out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from alm_cli.commands import options
from alm_cli.commands import sound_options as common
from alm_cli.commands import speak_options as own
from alm_cli.commands.given_texts import given_text
from alm_cli.commands.speaking import Speaking
from alm_cli.commands.speech_settings import Settings, own_settings
from alm_cli.commands.targets import Target, check_stdout, target_of
from alm_cli.commands.transcribe_options import DEFAULT_MODEL as RECOGNISER
from alm_cli.errors import UsageError
from alm_cli.jobs.report import make_report

if TYPE_CHECKING:
    from alm_cli.files.texts import Record


def speak(
    text: own.Text = None,
    file: own.File = None,
    output: common.Output = None,
    model: own.Model = own.DEFAULT_MODEL,
    voice: own.Voice = None,
    seed: common.Seed = None,
    temperature: common.Temperature = None,
    top_k: common.TopK = None,
    top_p: common.TopP = None,
    speed: own.Speed = 1.0,
    duration: own.Duration = None,
    pause: own.Pause = None,
    markup: own.Markup = "auto",
    strict: own.Strict = False,
    as_written: own.AsWritten = False,
    set_: own.Own = None,
    format: common.Format = None,
    stream: own.Stream = False,
    batch: own.BatchFile = None,
    batch_size: own.BatchSize = 8,
    timestamps: own.Timestamps = None,
    save_tokens: own.SaveTokens = None,
    from_tokens: own.FromTokens = None,
    continue_: own.Continue = None,
    verify: own.Verify = False,
    verify_model: own.VerifyModel = RECOGNISER,
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
    """Say a text, or many."""
    target = target_of(output, batch, what="text", skip=skip_existing, overwrite=overwrite)
    records = _records(text or (), file, batch, from_tokens)
    settings = Settings(
        model=model,
        voice=voice,
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        speed=speed,
        duration_s=duration,
        pause_s=pause,
        markup=markup,
        strict=strict,
        as_written=as_written,
        own=own_settings(set_ or ()),
        format=format,
        stream=stream or target.output is None,
        timestamps=_timestamps(timestamps, target),
        save_tokens=save_tokens,
        from_tokens=from_tokens,
        before=continue_,
        verify_model=verify_model if verify else None,
        accept_license=accept_license,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        threads=threads,
    )
    check_stdout(target, json=json)
    if from_tokens is None:
        options.check_model(model)
    if verify:
        options.check_model(verify_model)
    bar = target.output is not None or not sys.stdout.isatty()
    report = make_report(
        "speak",
        sys.stderr,
        sys.stdout if json else None,
        quiet=quiet,
        verbose=verbose,
        bar=bar and target.many,
    )
    summary = Speaking(settings, target, records, report).run()
    raise typer.Exit(summary.exit_code)


def _records(
    words: Sequence[str], file: str | None, batch: str | None, from_tokens: str | None
) -> list[Record]:
    """The texts, from where the user says they are. UsageError: from nowhere, or twice."""
    from alm_cli.files.texts import Record, read_records

    text = given_text(words, file, (batch, from_tokens), command="speak", what="TEXT")
    if batch is not None:
        return read_records(Path(batch))
    if from_tokens is not None:
        return [Record(from_tokens, "")]
    if text is None or not text.strip():
        raise UsageError("there is nothing to say: the text is empty")
    return [Record("speech", text)]


def _timestamps(text: str | None, target: Target) -> tuple[str, ...]:
    """The formats of the files that say when what is said. UsageError: unknown, or no place."""
    from alm_cli.files.transcripts import FORMATS, FURTHER

    if text is None:
        return ()
    if target.output is None:
        raise UsageError("--timestamps lie beside the sound", hint="give -o FILE")
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    for name in names:
        if name not in {**FORMATS, **FURTHER}:
            raise UsageError(f"--timestamps {name}: not one of {', '.join({**FORMATS, **FURTHER})}")
    return names
