"""`alm transcribe`: recordings in, text, subtitles and lines of JSON out."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import NoReturn

import typer

from alm_cli.commands import encode_options, options
from alm_cli.commands import transcribe_options as own
from alm_cli.commands.batch import Batch
from alm_cli.commands.transcribing import Settings
from alm_cli.errors import UsageError
from alm_cli.jobs.run import run_each
from alm_cli.jobs.sinks import STDOUT

# What --batched decodes together unless --batch-size says so.
_BATCHED = 8


def transcribe(
    inputs: options.Inputs = None,
    output: own.Output = None,
    format: own.Format = None,
    model: own.Model = own.DEFAULT_MODEL,
    draft_model: own.DraftModel = None,
    language: own.Language = None,
    languages: own.Languages = None,
    task: own.Task = "transcribe",
    word_timestamps: own.WordTimestamps = False,
    vad: own.Vad = False,
    temperature: own.Temperature = 0.0,
    temperature_increment_on_fallback: own.Increment = 0.2,
    beam_size: own.BeamSize = 5,
    best_of: own.BestOf = 5,
    patience: own.Patience = None,
    length_penalty: own.LengthPenalty = None,
    suppress_tokens: own.SuppressTokens = "-1",
    initial_prompt: own.InitialPrompt = None,
    carry_initial_prompt: own.CarryInitialPrompt = False,
    prefix: own.Prefix = None,
    hotwords: own.Hotwords = None,
    condition_on_previous_text: own.Condition = True,
    compression_ratio_threshold: own.CompressionRatio = 2.4,
    logprob_threshold: own.Logprob = -1.0,
    no_speech_threshold: own.NoSpeech = 0.6,
    hallucination_silence_threshold: own.HallucinationSilence = None,
    clip_timestamps: own.ClipTimestamps = "0",
    without_timestamps: own.WithoutTimestamps = False,
    max_line_width: own.LineWidth = None,
    max_line_count: own.LineCount = None,
    max_words_per_line: own.WordsPerLine = None,
    highlight_words: own.HighlightWords = False,
    prepend_punctuations: own.PrependPunctuations = "\"'“¿([{-",
    append_punctuations: own.AppendPunctuations = "\"'.。,，!！?？:：”)]}、",
    batched: own.Batched = False,
    audio_ctx: own.AudioCtx = "full",
    seed: own.Seed = 0,
    stream: own.Stream = False,
    raw: encode_options.Raw = None,
    rate: encode_options.RawRate = None,
    channels: own.Channels = None,
    from_list: options.FromList = None,
    recursive: options.Recursive = False,
    watch: own.Watch = None,
    skip_existing: own.SkipExisting = False,
    overwrite: options.Overwrite = False,
    resume: own.Resume = True,
    batch_size: options.BatchSize = options.AUTO,
    device: options.Device = options.AUTO,
    dtype: own.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write down what is said in recordings."""
    from alm_cli.files.transcripts import Layout
    from alm_cli.systems.transcriber import TranscribeAsk

    formats = formats_of(format, output)
    if watch is not None:
        _check_watch(watch, inputs, output, from_list)
        inputs, skip_existing = [watch], not overwrite
    if output is None and _is_one(inputs or (), from_list, watch):
        to_files = json or skip_existing or overwrite or len(formats) > 1
        output = None if to_files else STDOUT
    batch = Batch(
        "transcribe",
        inputs or (),
        output,
        from_list=from_list,
        recursive=recursive,
        skip_existing=skip_existing,
        overwrite=overwrite,
        together=batch_size,
        json=json,
        quiet=quiet,
        verbose=verbose,
        text=True,
    )
    ask = TranscribeAsk(
        language=_language(language),
        languages=_languages(languages),
        task=task,
        temperature=_temperatures(temperature, temperature_increment_on_fallback),
        best_of=best_of,
        beam_size=beam_size,
        patience=patience,
        length_penalty=length_penalty,
        suppress_tokens=suppress_tokens,
        initial_prompt=initial_prompt,
        prefix=prefix,
        carry_initial_prompt=carry_initial_prompt,
        condition_on_previous_text=condition_on_previous_text,
        compression_ratio_threshold=compression_ratio_threshold,
        logprob_threshold=logprob_threshold,
        no_speech_threshold=no_speech_threshold,
        word_timestamps=word_timestamps,
        prepend_punctuations=prepend_punctuations,
        append_punctuations=append_punctuations,
        hallucination_silence_threshold=hallucination_silence_threshold,
        clip_timestamps=own.numbers("--clip-timestamps", clip_timestamps),
        without_timestamps=without_timestamps,
        hotwords=hotwords,
        seed=seed,
        stream=stream,
        vad=vad,
        batched=batched,
        audio_ctx=audio_ctx,
    )
    settings = Settings(
        model=model,
        draft=draft_model,
        ask=ask,
        formats=formats,
        layout=Layout(
            max_line_width=max_line_width,
            max_line_count=max_line_count,
            max_words_per_line=max_words_per_line,
            highlight_words=highlight_words,
        ),
        raw=raw,
        rate=rate,
        channels=channels,
        skip_existing=skip_existing,
        resume=resume,
        batch=_BATCHED if batched and batch_size == options.AUTO else batch.lanes,
        device=device,
        dtype=dtype,
        threads=threads,
    )
    options.check_model(model)
    if draft_model is not None:
        options.check_model(draft_model)
    if watch is not None:
        _watch(watch, settings, batch)
    tasks = batch.tasks(settings.suffixes, f".{formats[0]}")
    settings.check(tasks, batch.existing)
    batch.run(tasks, lambda: settings.load().steps())


def _watch(folder: str, settings: Settings, batch: Batch) -> NoReturn:
    """Transcribe what comes, until Ctrl-C."""
    from alm_cli.jobs.watch import watch

    suffix = f".{settings.formats[0]}"
    tasks = watch(
        folder,
        batch.output,
        suffix,
        suffixes=settings.suffixes,
        recursive=batch.recursive,
        existing=batch.existing,
    )
    steps, report = settings.load().steps(), batch.report(bar=False)
    summary = run_each(tasks, steps, report, together=batch.lanes)
    raise typer.Exit(summary.exit_code)


def formats_of(
    format: str | None, output: str | None, *, otherwise: str = "txt"
) -> tuple[str, ...]:
    """What to write, each once, in the order given. UsageError: unknown, or too many for a file."""
    from alm_cli.files.transcripts import FORMATS, FURTHER

    known = {**FORMATS, **FURTHER}
    if format is None:
        suffix = Path(output or "").suffix.removeprefix(".").lower()
        return (suffix if suffix in known else otherwise,)
    given = [name.strip().lower() for name in format.split(",")]
    wrong = next((name for name in given if name not in {*known, "all"}), None)
    if wrong is not None:
        raise UsageError(f"--format {wrong}: not one of {', '.join(known)}, all")
    names = FORMATS if "all" in given else dict.fromkeys(given)
    if len(names) > 1 and output is not None and not _is_folder(output):
        raise UsageError(
            f"{len(names)} formats cannot all be written to {output}",
            hint="give a folder, ending in /",
        )
    return tuple(names)


def _is_folder(output: str) -> bool:
    return output != STDOUT and (output.endswith("/") or Path(output).is_dir())


def _is_one(inputs: Sequence[str], from_list: str | None, watch: str | None) -> bool:
    """Whether a single recording is named, and not a folder or a pattern."""
    if len(inputs) != 1 or from_list is not None or watch is not None:
        return False
    path = Path(inputs[0])
    return not path.is_dir() and (path.exists() or not glob.has_magic(inputs[0]))


def _check_watch(
    folder: str, inputs: Sequence[str] | None, output: str | None, from_list: str | None
) -> None:
    if inputs or from_list is not None:
        raise UsageError("--watch and inputs exclude each other", hint="give the folder alone")
    if not Path(folder).is_dir():
        raise UsageError(f"--watch {folder}: not a folder")
    if output is not None and not _is_folder(output):
        raise UsageError(f"-o {output}: what --watch finds goes to a folder, ending in /")


def _language(text: str | None) -> str | None:
    """The code of a language; None for `auto`. UsageError: there is no such language."""
    from alm_cli.text.languages import language_code

    return None if text is None or text.lower() in ("auto", "none") else language_code(text)


def _languages(text: str | None) -> tuple[str, ...]:
    from alm_cli.text.languages import language_code

    return tuple(dict.fromkeys(map(language_code, text.split(",")))) if text else ()


def _temperatures(first: float, step: float | None) -> tuple[float, ...]:
    """The temperatures that are tried, as the command of `openai-whisper` makes them."""
    import numpy as np

    if step is None:
        return (first,)
    if not (step > 0 and isfinite(first)):
        raise UsageError(f"a temperature increment of {step:g}", hint="more than 0, or None")
    return tuple(np.arange(first, 1.0 + 1e-6, step).tolist()) or (first,)
