"""`alm speak`: text in, speech out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from alm_cli.commands import options
from alm_cli.commands import speak_options as own
from alm_cli.commands.speaking import Speaking
from alm_cli.commands.speech_settings import Settings, Target
from alm_cli.commands.transcribe_options import DEFAULT_MODEL as RECOGNISER
from alm_cli.errors import InputError, UsageError
from alm_cli.jobs.report import make_report
from alm_cli.jobs.sinks import STDOUT
from alm_cli.jobs.sources import STDIN

if TYPE_CHECKING:
    from alm_cli.files.texts import Record


def speak(
    text: own.Text = None,
    file: own.File = None,
    output: own.Output = None,
    model: own.Model = own.DEFAULT_MODEL,
    voice: own.Voice = None,
    seed: own.Seed = None,
    temperature: own.Temperature = None,
    top_k: own.TopK = None,
    top_p: own.TopP = None,
    speed: own.Speed = 1.0,
    duration: own.Duration = None,
    pause: own.Pause = None,
    markup: own.Markup = "auto",
    strict: own.Strict = False,
    as_written: own.AsWritten = False,
    format: own.Format = None,
    stream: own.Stream = False,
    batch: own.BatchFile = None,
    batch_size: own.BatchSize = 8,
    timestamps: own.Timestamps = None,
    save_tokens: own.SaveTokens = None,
    from_tokens: own.FromTokens = None,
    continue_: own.Continue = None,
    verify: own.Verify = False,
    verify_model: own.VerifyModel = RECOGNISER,
    accept_license: own.AcceptLicense = False,
    skip_existing: own.SkipExisting = False,
    overwrite: options.Overwrite = False,
    device: options.Device = options.AUTO,
    dtype: own.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say a text, or many."""
    target = _target(batch, output, skip_existing, overwrite)
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
    _check_stdout(target, json)
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


def _target(batch: str | None, output: str | None, skip: bool, overwrite: bool) -> Target:
    """Where to write. UsageError: the options contradict each other."""
    if skip and overwrite:
        raise UsageError("--skip-existing and --overwrite exclude each other")
    if batch is None:
        if skip:
            raise UsageError("--skip-existing is for --batch")
        if output is not None and (output.endswith("/") or Path(output).is_dir()):
            raise UsageError(f"-o {output}: a folder, where one text makes a file")
        place = None if output in (None, STDOUT) else Path(output)
        return Target(place, many=False, overwrite=overwrite, skip=False)
    if output is None or output == STDOUT:
        raise UsageError("--batch writes many files", hint="name their folder, with -o DIR")
    if Path(output).exists() and not Path(output).is_dir():
        raise UsageError(f"-o {output}: a file, where --batch needs a folder")
    return Target(Path(output), many=True, overwrite=overwrite, skip=skip)


def _records(
    text: Sequence[str], file: str | None, batch: str | None, from_tokens: str | None
) -> list[Record]:
    """The texts, from where the user says they are. UsageError: from nowhere, or twice."""
    from alm_cli.files.texts import Record, read_records, read_text

    ways = [bool(text), file is not None, batch is not None, from_tokens is not None]
    if sum(ways) > 1:
        raise UsageError("TEXT, --file, --batch and --from-tokens exclude each other")
    if not any(ways):
        if sys.stdin.isatty():
            raise UsageError("no TEXT", hint="alm speak --help shows where it can come from")
        text = [STDIN]
    if batch is not None:
        return read_records(Path(batch))
    if from_tokens is not None:
        return [Record(from_tokens, "")]
    if file is not None:
        said = _decoded(sys.stdin.buffer.read()) if file == STDIN else read_text(Path(file))
    elif list(text) == [STDIN]:
        said = _decoded(sys.stdin.buffer.read())
    else:
        said = " ".join(text)
    if not said.strip():
        raise UsageError("there is nothing to say: the text is empty")
    return [Record("speech", said)]


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8 text, at byte {error.start}") from error


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


def _check_stdout(target: Target, json: bool) -> None:
    if target.output is not None:
        return
    if json:
        raise UsageError("--json and the sound cannot both go to standard output", hint="-o FILE")
    if sys.stdout.isatty():
        hint = f"-o FILE, or -o {STDOUT} into a pipe"
        raise UsageError("sound is binary and standard output is a terminal", hint=hint)
