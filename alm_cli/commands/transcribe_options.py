"""The options of `alm transcribe` alone; where `whisper` has one too, it is called the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import typer

from alm_cli.errors import UsageError

DEFAULT_MODEL = "alm-asr"


def recognisers(incomplete: str) -> Iterator[tuple[str, str]]:
    """The recognisers of the catalogue that begin like this, with their notes, for the shell."""
    from alm_cli.catalog import CATALOG

    for card in CATALOG:
        if card.task == "recogniser" and card.name.startswith(incomplete):
            yield card.name, card.note


def _or_none(text: str) -> float | None:
    """A number, or the word None, as the options of `whisper` have it."""
    return None if text in ("None", "none") else float(text)


def _count_or_none(text: str) -> int | None:
    return None if text in ("None", "none") else int(text)


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers with commas between. UsageError: other things."""
    try:
        return tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise UsageError(f"{option} {text}: not numbers with commas between") from None


def _number(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, metavar="X|None", parser=_or_none, help=help, **more)


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="A recogniser that `alm models` lists, or the folder or file of one.",
        autocompletion=recognisers,
    ),
]
DraftModel = Annotated[
    str | None,
    typer.Option(
        "--draft-model",
        metavar="NAME|PATH",
        help="A smaller Whisper of the same vocabulary that guesses what --model writes: the same"
        " text, sooner. For greedy decoding: --beam-size None.",
        autocompletion=recognisers,
    ),
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16", "int8"],
    typer.Option(help="The numbers the model computes with; int8 for Whisper on processors."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="A file; a folder, ending in /, which mirrors the tree; or - for standard output."
        " Without it the text of a single recording goes to standard output (with --json,"
        " --overwrite or --skip-existing beside it), and those of several lie beside them.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        show_default="by the suffix of OUT, or txt",
        help="txt, vtt, srt, tsv, json, jsonl (a line for each segment, with all that is known of"
        " it), all of these, or textgrid (for Praat); several with commas between.",
    ),
]
Language = Annotated[
    str | None,
    typer.Option(metavar="L", help="The language spoken, by code or English name; else detected."),
]
Languages = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Detect one of these languages, anew for every window."),
]
Task = Annotated[
    Literal["transcribe", "translate"],
    typer.Option(help="Write down what is said, or translate it to English."),
]
WordTimestamps = Annotated[
    bool,
    typer.Option(
        "--word-timestamps",
        help="Find the time of every word; subtitles then go by words.",
    ),
]
Vad = Annotated[
    bool,
    typer.Option("--vad/--no-vad", help="Leave out what the offline model hears no speech in."),
]
BeamSize = Annotated[
    int | None,
    typer.Option(metavar="N|None", parser=_count_or_none, help="Beams, at temperature 0."),
]
BestOf = Annotated[
    int | None,
    typer.Option(metavar="N|None", parser=_count_or_none, help="Samples above temperature 0."),
]
Patience = Annotated[
    float | None, _number("Go on until so many times --beam-size texts are finished.")
]
LengthPenalty = Annotated[
    float | None, _number("Compare texts by this power of their length, 0 to 1.")
]
Temperature = Annotated[
    float, typer.Option(metavar="X", help="The temperature to begin with; 0 searches with beams.")
]
Increment = Annotated[
    float | None,
    _number(
        "What is added, up to 1, while a text fails the thresholds.",
        "--temperature-increment-on-fallback",
    ),
]
CompressionRatio = Annotated[
    float | None, _number("A text that zlib shortens more than this repeats itself and fails.")
]
Logprob = Annotated[
    float | None, _number("A text with a lower mean log-probability of its tokens fails.")
]
NoSpeech = Annotated[
    float | None, _number("One that fails so is silence, where this probability is exceeded.")
]
HallucinationSilence = Annotated[
    float | None,
    _number("Skip pauses longer than this many seconds around what looks invented."),
]
SuppressTokens = Annotated[
    str,
    typer.Option(metavar="IDS", help="Tokens never written; -1 stands for those of non-speech."),
]
InitialPrompt = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What was said before, or names to expect.")
]
Prefix = Annotated[
    str | None, typer.Option(metavar="TEXT", help="How the text of each window begins.")
]
CarryInitialPrompt = Annotated[
    bool,
    typer.Option(
        "--carry-initial-prompt",
        help="Give --initial-prompt for every window, not only the first.",
    ),
]
Condition = Annotated[
    bool,
    typer.Option(
        "--condition-on-previous-text/--no-condition-on-previous-text",
        help="Give each window the text before it.",
    ),
]
Hotwords = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Words to expect in every window.")
]
ClipTimestamps = Annotated[
    str,
    typer.Option(
        metavar="S,E,...", help="Only from S to E seconds, and so on; the last to its end."
    ),
]
WithoutTimestamps = Annotated[
    bool,
    typer.Option("--without-timestamps", help="Only text, so one segment a window."),
]
Batched = Annotated[
    bool,
    typer.Option(
        "--batched",
        help="Decode windows of one recording together, so without the text before them.",
    ),
]
AudioCtx = Annotated[
    Literal["full", "auto"],
    typer.Option(help="auto lets Whisper hear short recordings without the silence after them."),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="The seed of what is sampled.")]
LineWidth = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Characters in a line of subtitles.")
]
LineCount = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Lines in a subtitle, if the width is given.")
]
WordsPerLine = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Words in a line, if no width is given.")
]
HighlightWords = Annotated[
    bool,
    typer.Option("--highlight-words", help="Underline each word while it is said."),
]
PrependPunctuations = Annotated[
    str, typer.Option(metavar="CHARS", help="Punctuation that belongs to the word after it.")
]
AppendPunctuations = Annotated[
    str, typer.Option(metavar="CHARS", help="Punctuation that belongs to the word before it.")
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream", help="Read once and write each segment as soon as it is final, for live pipes."
    ),
]
Channels = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="How many channels --raw audio has.")
]
Watch = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Transcribe what is in this folder, and what is put there once it stops growing, until"
        " Ctrl-C.",
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="Leave transcripts that would be the same again, and those that were edited.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--no-resume", help="Go on where a run that was broken off or killed ended."
    ),
]
