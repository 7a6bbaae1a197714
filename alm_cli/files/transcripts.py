"""Transcripts as text: the files of `openai-whisper`, byte for byte, and lines of JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from alm_cli.errors import FormatError
from alm_cli.files.textgrid import textgrid
from alm_cli.values import Segment, Transcript, Word

# The version of a line of JSON, which is in each of them.
VERSION = 1
# A pause after which words that may move between segments begin a new subtitle, in seconds.
_PAUSE_S = 3.0
_MANY = 1000
# Lines of other programs, and damaged ones, are read too: nothing in them may be without bounds.
_LONGEST_S, _LARGEST, _LONGEST_TEXT, _MOST = 1e7, 1 << 31, 1 << 20, 1 << 16


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How words make subtitles: characters in a line, lines, words in a line, and underlining.

    As in `openai-whisper`, lines count only with a width, and words in a line only without.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False


@dataclass(frozen=True, kw_only=True)
class About:
    """What a transcript is of, and which model made it.

    `words` tells that the times of words were asked for; `language` is what to say where no
    segment knows.
    """

    file: str
    model: str
    weights_sha256: str
    words: bool = False
    language: str | None = None


Segments = Iterable[Segment]


def render(
    format: str, segments: Segments, about: About, layout: Layout = Layout()
) -> Iterator[str]:
    """The text of one of `FORMATS` or `FURTHER`, each part as soon as its segments are there.

    JSON and TextGrid are not known before the last segment; then their parts are short.
    """
    yield from {**FORMATS, **FURTHER}[format](segments, about, layout)


def hallucination_score(segment: Segment) -> float | None:
    """How much a segment looks invented, 0..1, None where the model tells nothing of it.

    The greater one of: how far the compression ratio is above 1.9, at most 1 (a text that repeats
    itself); and the mean of the probability that nobody speaks and of half the mean negative
    log-probability, at most 1 (a text that the model doubts). The thresholds at which `openai-
    whisper` decodes again (2.4) and leaves out (0.6 and -1) are at 0.5 and 0.55.
    """
    told = [segment.compression_ratio, segment.no_speech_prob, segment.avg_logprob]
    if all(map(math.isnan, told)):
        return None
    ratio, silent, logprob = (0.0 if math.isnan(value) else value for value in told)
    doubt = (_share(silent) + _share(-logprob / 2)) / 2
    return round(max(_share(ratio - 1.9), doubt), 4)


def to_record(segment: Segment) -> dict[str, Any]:
    """A segment as what JSON can say; what is not a number is null."""
    return {
        "seek": int(segment.seek),
        "start": _number(segment.start_s),
        "end": _number(segment.end_s),
        "text": segment.text,
        "words": [_word(word) for word in segment.words],
        "tokens": [int(token) for token in segment.tokens],
        "temperature": _number(segment.temperature),
        "avg_logprob": _number(segment.avg_logprob),
        "compression_ratio": _number(segment.compression_ratio),
        "no_speech_prob": _number(segment.no_speech_prob),
        "language": segment.language,
    }


def from_record(record: object) -> Segment:
    """The segment of such a record; other keys are ignored. FormatError: it makes no sense."""
    if not isinstance(record, dict):
        raise FormatError("not a segment of a transcript")
    start, end = _seconds(record, "start"), _seconds(record, "end")
    if end < start:
        raise FormatError(f"a segment that ends at {end:g} s, before it begins")
    language = record.get("language")
    if language is not None and not (isinstance(language, str) and len(language) <= 32):
        raise FormatError(f"an impossible language: {language!r:.80}")
    return Segment(
        start_s=start,
        end_s=end,
        text=_text(record, "text"),
        words=tuple(map(_parsed_word, _list(record, "words"))),
        tokens=tuple(_whole(token, "token") for token in _list(record, "tokens")),
        seek=_whole(record.get("seek", 0), "seek"),
        temperature=_float(record, "temperature"),
        avg_logprob=_float(record, "avg_logprob"),
        compression_ratio=_float(record, "compression_ratio"),
        no_speech_prob=_float(record, "no_speech_prob"),
        language=language,
    )


def read_jsonl(lines: Iterable[str | bytes]) -> Transcript:
    """The transcript of one recording from its lines of JSON, of which the last says so.

    FormatError: a line makes no sense, or the last one is missing.
    """
    segments: list[Segment] = []
    for number, line in enumerate(lines, 1):
        try:
            record = parse_line(line)
            if "segments" not in record:
                segments.append(from_record(record))
                continue
            if _whole(record["segments"], "number of segments") != len(segments):
                raise FormatError(f"{record['segments']} segments, where {len(segments)} are there")
            return Transcript(
                segments=tuple(segments),
                language=record.get("language"),
                model=_text(record, "model"),
                weights_sha256=_text(record, "weights_sha256"),
            )
        except FormatError as error:
            raise FormatError(f"line {number}: {error.message}") from None
    raise FormatError("ends before the transcript does")


def parse_line(line: str | bytes) -> dict[str, Any]:
    """The object in a line of JSON of this version. FormatError: it is something else."""
    try:
        record = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise FormatError("not a line of JSON") from None
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise FormatError(f"JSON, but not of version {VERSION}")
    return record


def _txt(segments: Segments, *_: object) -> Iterator[str]:
    for segment in segments:
        yield f"{segment.text.strip()}\n"


def _tsv(segments: Segments, *_: object) -> Iterator[str]:
    yield "start\tend\ttext\n"
    for segment in segments:
        start, end = round(1000 * segment.start_s), round(1000 * segment.end_s)
        text = segment.text.strip().replace("\t", " ")
        yield f"{start}\t{end}\t{text}\n"


def _vtt(segments: Segments, about: About, layout: Layout) -> Iterator[str]:
    yield "WEBVTT\n\n"
    for start, end, text in _subtitles(segments, about, layout):
        yield f"{_stamp(start, '.')} --> {_stamp(end, '.')}\n{text}\n\n"


def _srt(segments: Segments, about: About, layout: Layout) -> Iterator[str]:
    for number, (start, end, text) in enumerate(_subtitles(segments, about, layout), 1):
        yield f"{number}\n{_stamp(start, ',')} --> {_stamp(end, ',')}\n{text}\n\n"


def _json(segments: Segments, about: About, _: Layout) -> Iterator[str]:
    """`openai-whisper`'s keys in their order; the whole text stands first, so all are waited for.

    Segments wait as text, which takes a fraction of the memory of the values.
    """
    texts, waiting, language = [], [], None
    for number, segment in enumerate(segments):
        texts.append(segment.text)
        language = language or segment.language
        waiting.append(json.dumps(_whisper_segment(number, segment, about.words)))
    yield f'{{"text": {json.dumps("".join(texts))}, "segments": ['
    for number, text in enumerate(waiting):
        yield f", {text}" if number else text
    yield f'], "language": {json.dumps(language or about.language)}}}'


def _jsonl(segments: Segments, about: About, _: Layout) -> Iterator[str]:
    """A line for each segment, and one that says that these were all."""
    made = {"file": about.file, "model": about.model, "weights_sha256": about.weights_sha256}
    count, language = 0, None
    for segment in segments:
        score = {"hallucination": hallucination_score(segment)}
        record = {"version": VERSION, "id": count, **to_record(segment), **score, **made}
        yield json.dumps(record) + "\n"
        count, language = count + 1, language or segment.language
    end = {"version": VERSION, "segments": count, "language": language or about.language}
    yield json.dumps(end | made) + "\n"


Render = Callable[[Segments, About, Layout], Iterator[str]]
# In the order in which `openai-whisper` writes them.
FORMATS: Mapping[str, Render] = {
    "txt": _txt,
    "vtt": _vtt,
    "srt": _srt,
    "tsv": _tsv,
    "json": _json,
    "jsonl": _jsonl,
}
# These have to be asked for by name.
FURTHER: Mapping[str, Render] = {"textgrid": textgrid}


def _whisper_segment(number: int, segment: Segment, words: bool) -> dict[str, Any]:
    record = to_record(segment)
    del record["language"]
    # There they are the last key, and missing when they were not asked for.
    said = record.pop("words")
    return {"id": number, **record} | ({"words": said} if words else {})


def _subtitles(
    segments: Segments, about: About, layout: Layout
) -> Iterator[tuple[float, float, str]]:
    """Start, end and text of each subtitle: a segment, or words as the layout has them."""
    if not about.words:
        for segment in segments:
            yield segment.start_s, segment.end_s, segment.text.strip().replace("-->", "->")
        return
    for words in _arranged(segments, layout):
        if layout.highlight_words:
            yield from _underlined(words)
        else:
            yield words[0].start_s, words[-1].end_s, "".join(word.text for word in words)


def _arranged(segments: Segments, layout: Layout) -> Iterator[list[Word]]:
    """The words of each subtitle; the first of a further line begins with a line feed."""
    # Only with both limits words may leave the subtitle of their segment.
    apart = layout.max_line_count is None or layout.max_line_width is None
    width = layout.max_line_width or _MANY
    subtitle: list[Word] = []
    length, lines = 0, 1
    last: float | None = None
    for word, begins in _in_chunks(segments, layout.max_words_per_line or _MANY):
        pause = not apart and word.start_s - (word.start_s if last is None else last) > _PAUSE_S
        split = apart and begins and bool(subtitle)
        last = word.start_s
        if 0 < length <= width - len(word.text) and not (pause or split):
            length += len(word.text)
            subtitle.append(word)
            continue
        text = word.text.strip()
        full = layout.max_line_count is not None and (pause or lines >= layout.max_line_count)
        if split or (full and subtitle):
            yield subtitle
            subtitle, lines = [], 1
        elif length:
            lines += 1
            text = "\n" + text
        length = len(text.strip())
        subtitle.append(replace(word, text=text))
    if subtitle:
        yield subtitle


def _in_chunks(segments: Segments, size: int) -> Iterator[tuple[Word, bool]]:
    """Each word, and whether it is the first of so many of its segment."""
    for segment in segments:
        for number, word in enumerate(segment.words):
            yield word, number % size == 0


def _underlined(words: list[Word]) -> Iterator[tuple[float, float, str]]:
    """A subtitle for each word, which is underlined, and for the pauses between them."""
    whole = "".join(word.text for word in words)
    last = words[0].start_s
    for number, word in enumerate(words):
        # As the text shows them: to the millisecond.
        if _milliseconds(last) != _milliseconds(word.start_s):
            yield last, word.start_s, whole
        marked = re.sub(r"^(\s*)(.*)$", r"\1<u>\2</u>", word.text)
        texts = [other.text for other in words]
        yield word.start_s, word.end_s, "".join([*texts[:number], marked, *texts[number + 1 :]])
        last = word.end_s


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000.0)


def _stamp(seconds: float, marker: str) -> str:
    """`01:02:03,456`; before a point, as in WebVTT, hours only where there are any."""
    minutes, milliseconds = divmod(_milliseconds(seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours:02d}:" if hours or marker == "," else ""
    return f"{shown}{minutes:02d}:{milliseconds // 1000:02d}{marker}{milliseconds % 1000:03d}"


def _word(word: Word) -> dict[str, Any]:
    return {
        "word": word.text,
        "start": _number(word.start_s),
        "end": _number(word.end_s),
        "probability": _number(word.probability),
    }


def _parsed_word(record: object) -> Word:
    if not isinstance(record, dict):
        raise FormatError("not a word of a transcript")
    start, end = _seconds(record, "start"), _seconds(record, "end")
    if end < start:
        raise FormatError(f"a word that ends at {end:g} s, before it begins")
    probability = _float(record, "probability")
    return Word(start_s=start, end_s=end, text=_text(record, "word"), probability=probability)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _float(record: Mapping[str, Any], key: str) -> float:
    """A number of any sign, NaN for null or what is not there."""
    value = record.get(key)
    if value is None:
        return math.nan
    if type(value) not in (int, float) or not abs(value) <= _LARGEST:
        raise FormatError(f"an impossible {key}: {value!r:.80}")
    return float(value)


def _seconds(record: Mapping[str, Any], key: str) -> float:
    value = _float(record, key)
    if not 0 <= value <= _LONGEST_S:
        raise FormatError(f"an impossible {key}: {record.get(key)!r:.80}")
    return value


def _whole(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise FormatError(f"an impossible {name}: {value!r:.80}")
    return value


def _text(record: Mapping[str, Any], key: str) -> str:
    text = record.get(key)
    # A lone half of a surrogate pair, which JSON can spell, could not be written.
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT or re.search("[\ud800-\udfff]", text):
        raise FormatError(f"an impossible {key}: {text!r:.80}")
    return text


def _list(record: Mapping[str, Any], key: str) -> list[object]:
    value = record.get(key, [])
    if not isinstance(value, list) or len(value) > _MOST:
        raise FormatError(f"an impossible {key}: {value!r:.80}")
    return value
