"""The steps of `alm transcribe`: from a recording through the recogniser into transcripts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

from alm_cli import __version__
from alm_cli.commands.hearing import Recording, hear, keep, let_go, opened
from alm_cli.commands.transcript_notes import NOBODY, Counted, note_input, note_model
from alm_cli.errors import AlmError, InputError, UsageError
from alm_cli.files.ledger import Ledger
from alm_cli.jobs.run import Steps
from alm_cli.jobs.sinks import Existing, occupied, open_sink
from alm_cli.jobs.task import Abort, Skip, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alm_cli.files.audio import AudioReader, RawFormat
    from alm_cli.files.journal import Journal
    from alm_cli.files.transcripts import About, Layout
    from alm_cli.systems.transcriber import TranscribeAsk
    from alm_cli.values import Segment

    Samples = NDArray[np.float32]
    Resume = Callable[["Recording", TranscribeAsk, Iterable[Segment], int], Iterator[Segment]]

# Audio is read in blocks of this many seconds; for --stream in short ones, as it arrives.
_BLOCK_S, _STREAM_BLOCK_S = 2.0, 0.05


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides about the transcripts, and where they are made; contradictions raise UsageError.

    `rate` and `channels` are those of `raw` samples; `batch` windows are decoded together; `draft`
    guesses what the model writes.
    """

    model: str
    ask: TranscribeAsk
    formats: tuple[str, ...]
    layout: Layout
    raw: str | None = None
    rate: int | None = None
    channels: int | None = None
    skip_existing: bool = False
    resume: bool = True
    batch: int = 1
    device: str = "auto"
    dtype: str = "float32"
    threads: int | None = None
    draft: str | None = None

    def __post_init__(self) -> None:
        if self.raw is None and (self.rate, self.channels) != (None, None):
            what = "--rate" if self.rate is not None else "--channels"
            raise UsageError(f"{what} tells of raw audio", hint="give --raw too")
        if self.raw is not None and self.rate is None:
            raise UsageError("raw audio does not tell its rate", hint="give --rate")
        if self.ask.word_timestamps:
            return
        for name, value in asdict(self.layout).items():
            if value:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} arranges words", hint="give --word-timestamps too")

    @property
    def form(self) -> RawFormat | None:
        """How raw samples lie in a file. UsageError: there is no such encoding."""
        from alm_cli.files.audio import RawFormat

        if self.raw is None or self.rate is None:
            return None
        return RawFormat(self.raw, self.rate, self.channels or 1)

    @property
    def suffixes(self) -> Collection[str]:
        """How the files end that a folder is searched for. UsageError: as for the form."""
        from alm_cli.files.audio import AUDIO_SUFFIXES

        return AUDIO_SUFFIXES if self.form is None else {".raw", ".pcm", f".{self.raw}"}

    def load(self) -> Transcribing:
        """The steps, with the model in memory. ModelError, UsageError: it cannot be as asked."""
        from alm_cli.systems.transcriber import load_transcriber

        transcriber = load_transcriber(
            self.model,
            device=self.device,
            dtype=self.dtype,
            threads=self.threads,
            batch=self.batch,
            draft=self.draft,
        )
        return Transcribing(transcriber, self)

    def targets(self, task: Task) -> list[Path]:
        """The files that a task makes; none where it writes to standard output."""
        if task.target is None:
            return []
        if len(self.formats) == 1:
            return [task.target]
        return [task.target.with_suffix(f".{format}") for format in self.formats]

    def check(self, tasks: Sequence[Task], existing: Existing) -> None:
        """Let tasks fail that would write over something with another than their first format."""
        paths = (task.item.path for task in tasks)
        inputs = frozenset(str(path.resolve()) for path in paths if path is not None)
        for task in tasks:
            obstacles = (occupied(path, inputs, existing) for path in self.targets(task)[1:])
            problem = next(filter(None, obstacles), None)
            if problem is not None and task.problem is None:
                task.problem = InputError(problem, hint="--overwrite, or another -o")


class Chunk(NamedTuple):
    """Samples [n] at 16 kHz, the reader that they come from, and what can be read again."""

    reader: AudioReader
    source: Path | BinaryIO
    samples: Samples


class Piece(NamedTuple):
    """What is found, by which model, and the journal that it is to go to; at first nothing."""

    about: About
    journal: Journal | None
    segment: Segment | None


class Model(Protocol):
    """What is needed of a recogniser: see `Transcriber`.

    One that can begin anywhere has `resume(recording, ask, earlier, seek)` besides: the segments
    from the window that begins at the frame `seek`, where `earlier` are those before it.
    """

    name: str
    weights_sha256: str

    def segments(
        self, recording: Callable[[], Iterable[Samples]], ask: TranscribeAsk
    ) -> Iterator[Segment]: ...


@dataclass(frozen=True)
class Transcribing:
    """The steps of one `alm transcribe`."""

    transcriber: Model
    settings: Settings
    ledger: Ledger = field(default_factory=Ledger)

    def steps(self) -> Steps[Chunk, Piece]:
        """From files to files."""
        return Steps(self.read, self.work, self.write)

    def read(self, task: Task) -> Iterator[Chunk]:
        """The recording as recognisers hear it, an empty block first, which tells what it is."""
        import numpy as np

        if self.settings.skip_existing:
            self._skip(task)
        source: Path | BinaryIO = task.item.path or sys.stdin.buffer
        if not self.settings.ask.stream:
            source = keep(source)
        try:
            with opened(source, self.settings.form) as reader:
                yield Chunk(reader, source, np.zeros(0, np.float32))
                for samples in hear(reader, self._block_s):
                    yield Chunk(reader, source, samples)
        except BaseException:
            let_go(source)
            raise

    def work(self, task: Task, chunks: Iterator[Chunk]) -> Iterator[Piece]:
        """What is said in it, each segment as soon as it is final."""
        reader, source, _ = next(chunks)
        task.length_s = reader.seconds
        blocks = (chunk.samples for chunk in chunks)
        try:
            begin = next((block for block in blocks if len(block)), None)
            if begin is None:
                raise InputError("holds no audio")
            recording = Recording(source, self.settings.form, chain([begin], blocks), self._block_s)
            about, journal = self._about(task), self._journal(task)
            yield from self._found(task, recording, about, journal)
            task.seconds = recording.seconds
        finally:
            let_go(source)
        note_input(task, reader)
        acceptance = getattr(self.transcriber, "acceptance", None)
        note_model(task, self.settings.device, self.settings.dtype, acceptance)

    def write(self, task: Task, pieces: Iterator[Piece]) -> None:
        """Write each segment at once where it can be seen, else all when they are there."""
        about, journal, _ = next(pieces)
        found = (piece.segment for piece in pieces if piece.segment is not None)
        if journal is None:
            with open_sink(task.target, sys.stdout.buffer) as file:
                self._render(task, file, self.settings.formats[0], found, about)
            return
        with journal:
            try:
                for segment in found:
                    journal.append(segment)
            except BaseException as error:
                _forget(journal, error)
                raise
            targets = self.settings.targets(task)
            # They get their names together, when all are whole.
            with ExitStack() as sinks:
                for target, format in zip(targets, self.settings.formats, strict=True):
                    file = sinks.enter_context(open_sink(target, sys.stdout.buffer))
                    self._render(task, file, format, journal.segments(), about)
            for target in targets:
                self.ledger.note(target, self._made(task))
            journal.remove()
        if len(targets) > 1:
            task.facts["outputs"] = [str(target) for target in targets]

    @property
    def _block_s(self) -> float:
        return _STREAM_BLOCK_S if self.settings.ask.stream else _BLOCK_S

    def _found(
        self, task: Task, recording: Recording, about: About, journal: Journal | None
    ) -> Iterator[Piece]:
        """Nothing at first, when it is known that the model can do what is asked; then segments."""
        try:
            segments = self._segments(recording, journal)
            first = list(islice(segments, 1))
        except BaseException as error:
            if journal is not None:
                with journal:
                    _forget(journal, error)
            if isinstance(error, UsageError):
                raise _abort(error) from error
            raise
        yield Piece(about, journal, None)
        for segment in chain(first, segments):
            task.seconds = max(task.seconds, segment.end_s)
            yield Piece(about, journal, segment)

    def _render(
        self,
        task: Task,
        file: BinaryIO,
        format: str,
        segments: Iterable[Segment],
        about: About,
    ) -> None:
        """Write segments, each at once, and note what they come to."""
        from alm_cli.files.transcripts import render

        counted = Counted(segments, about.language)
        for text in render(format, counted, about, self.settings.layout):
            file.write(text.encode())
            file.flush()
        task.facts |= {
            "model": about.model,
            "language": counted.language,
            "segments": counted.segments,
            "words": counted.words,
        }
        if not counted.words and NOBODY not in task.warnings:
            task.warnings.append(NOBODY)

    def _about(self, task: Task) -> About:
        from alm_cli.files.transcripts import About

        return About(
            file=task.item.name,
            model=self.transcriber.name,
            weights_sha256=self.transcriber.weights_sha256,
            words=self.settings.ask.word_timestamps,
            language=self.settings.ask.language,
        )

    def _journal(self, task: Task) -> Journal | None:
        """Where the segments wait for the end; pipes and devices get them as they are found."""
        from alm_cli.files.journal import Journal, journal_path

        if task.target is None or (task.target.exists() and not task.target.is_file()):
            return None
        source = _stamp(task)
        asked = {**self._asked(), "source": source, "program": __version__}
        resume = self.settings.resume and source is not None
        return Journal(journal_path(task.target), asked, resume=resume)

    def _segments(self, recording: Recording, journal: Journal | None) -> Iterator[Segment]:
        """The segments that are not in the journal yet.

        Of the last window there may be more than it has, so that one is done again. A model that
        can only begin at the beginning does everything again.
        """
        ask = self.settings.ask
        resume: Resume | None = getattr(self.transcriber, "resume", None)
        resume = resume if _is_steady(ask) else None
        if journal is not None and journal.count:
            seek, before = _last_window(journal.segments())
            journal.keep(before if resume is not None else 0)
            if resume is not None and before:
                return resume(recording, ask, islice(journal.segments(), before), seek)
        return self.transcriber.segments(recording, ask)

    def _asked(self) -> dict[str, Any]:
        """What must be the same for two runs to find the same segments."""
        settings = self.settings
        return {
            "model": self.transcriber.name,
            "weights": self.transcriber.weights_sha256,
            "dtype": settings.dtype,
            "raw": [settings.raw, settings.rate, settings.channels] if settings.raw else None,
            **asdict(settings.ask),
        }

    def _made(self, task: Task) -> Mapping[str, Any]:
        """The same for two runs to write the same files."""
        return {**self._asked(), **asdict(self.settings.layout), "source": _stamp(task)}

    def _skip(self, task: Task) -> None:
        """Raise Skip where there is nothing to do, or where something would be lost."""
        made = self._made(task)
        states = {self.ledger.state(path, made) for path in self.settings.targets(task)}
        if "foreign" in states:
            raise Skip("its transcript was edited or made elsewhere (--overwrite replaces it)")
        if states == {"current"}:
            raise Skip("its transcript is there and still valid")


def _forget(journal: Journal, error: BaseException) -> None:
    """Take the journal away where the same would happen the next time."""
    if isinstance(error, AlmError):
        journal.remove()


def _abort(error: UsageError) -> Abort:
    """What the model cannot do it cannot do with any recording: the whole job ends."""
    abort = Abort(error.message, error.hint)
    abort.exit_code = error.exit_code
    return abort


def _is_steady(ask: TranscribeAsk) -> bool:
    """Whether windows follow one another, and what they leave behind is in their segments."""
    clips = ask.clip_timestamps
    return ask.hallucination_silence_threshold is None and list(clips) == sorted(clips)


def _last_window(segments: Iterable[Segment]) -> tuple[int, int]:
    """Where the last window begins, and how many segments there are before it.

    None are of use where windows do not follow one another, as no model leaves them.
    """
    seek = before = 0
    for number, segment in enumerate(segments):
        if segment.seek < seek:
            return 0, 0
        if segment.seek > seek:
            seek, before = segment.seek, number
    return seek, before


def _stamp(task: Task) -> list[int] | None:
    """What tells whether a recording was changed: bytes, and the time; None of a pipe."""
    path = task.item.path
    if path is None or not path.is_file():
        return None
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
