"""`alm align`: when each word of a known text is said in a recording."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alm_cli.commands import encode_options, options
from alm_cli.commands import transcribe_options as own
from alm_cli.commands.batch import Batch
from alm_cli.commands.transcribe import formats_of
from alm_cli.commands.transcribing import Settings, Transcribing
from alm_cli.errors import InputError, UsageError
from alm_cli.jobs.sinks import STDOUT
from alm_cli.jobs.sources import STDIN

if TYPE_CHECKING:
    from alm_cli.systems.align import Aligner
    from alm_cli.systems.transcriber import Recording, TranscribeAsk
    from alm_cli.values import Segment

# Longer texts are no texts: a day of speech has a tenth of it.
_MOST_BYTES = 1 << 24

Audio = Annotated[
    str,
    typer.Argument(
        metavar="AUDIO", help="A recording, or - for standard input.", show_default=False
    ),
]
TextFile = Annotated[
    str | None,
    typer.Argument(
        metavar="TEXT",
        help="A file with what is said there, or - for standard input; each line and each sentence"
        " becomes a segment.",
        show_default=False,
    ),
]
Text = Annotated[str | None, typer.Option(metavar="WORDS", help="The text itself.")]
Output = Annotated[
    str,
    typer.Option("--output", "-o", metavar="OUT", help="A file, or - for standard output."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        show_default="by the suffix of OUT, or json",
        help="json, jsonl, srt, vtt, tsv, txt or textgrid (for Praat).",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="A recogniser with letters (CTC), by name, or the folder or file of one.",
        autocompletion=own.recognisers,
    ),
]


def align(
    audio: Audio,
    text_file: TextFile = None,
    text: Text = None,
    output: Output = STDOUT,
    format: Format = None,
    model: Model = own.DEFAULT_MODEL,
    max_line_width: own.LineWidth = None,
    max_line_count: own.LineCount = None,
    max_words_per_line: own.WordsPerLine = None,
    highlight_words: own.HighlightWords = False,
    raw: encode_options.Raw = None,
    rate: encode_options.RawRate = None,
    channels: own.Channels = None,
    overwrite: options.Overwrite = False,
    device: options.Device = options.AUTO,
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find when each word of a known text is said in a recording."""
    from alm_cli.files.transcripts import Layout
    from alm_cli.systems.transcriber import TranscribeAsk

    formats = formats_of(format, output, otherwise="json")
    batch = Batch(
        "align",
        [audio],
        output,
        from_list=None,
        recursive=False,
        skip_existing=False,
        overwrite=overwrite,
        together=options.AUTO,
        json=json,
        quiet=quiet,
        verbose=verbose,
        text=True,
    )
    settings = Settings(
        model=model,
        ask=TranscribeAsk(word_timestamps=True),
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
        resume=False,
        device=device,
        dtype=dtype,
        threads=threads,
    )
    words = _said(audio, text_file, text)
    options.check_model(model)
    tasks = batch.tasks(settings.suffixes, f".{formats[0]}")

    def load() -> Transcribing:
        from alm_cli.systems.align import load_aligner

        aligner = load_aligner(model, device=device, dtype=dtype, threads=threads)
        return Transcribing(Reader(aligner, words), settings)

    batch.run(tasks, lambda: load().steps())


class Reader:
    """An aligner and its text, as a recogniser that knows what it will write."""

    def __init__(self, aligner: Aligner, text: str) -> None:
        self._aligner, self._text = aligner, text
        self.name, self.weights_sha256 = aligner.name, aligner.weights_sha256

    def segments(self, recording: Recording, ask: TranscribeAsk) -> Iterator[Segment]:  # noqa: ARG002
        """Every sentence and line of the text."""
        yield from self._aligner.align(recording, self._text).segments


def _said(audio: str, file: str | None, text: str | None) -> str:
    """The text. InputError: the file cannot be read; UsageError: there is none, or two."""
    if (file is None) == (text is None):
        raise UsageError("a TEXT file or --text is needed, and not both")
    if file is None:
        return text or ""
    if file == STDIN == audio:
        raise UsageError("standard input is either the recording or the text")
    try:
        with sys.stdin.buffer if file == STDIN else Path(file).open("rb") as source:
            data = source.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise InputError(f"{file}: too long for a text", hint="is it the recording?")
        return data.decode()
    except OSError as error:
        hint = "--text takes the words themselves"
        raise InputError(f"{file}: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        hint = "`iconv -t UTF-8` makes it so"
        raise InputError(f"{file}: not a text in UTF-8", hint=hint) from error
