"""The work of `alm speak`: from texts through a speaker into files, tokens and a manifest."""

from __future__ import annotations

import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from alm_cli import __version__
from alm_cli.commands.speech_files import Outputs, comment_of, write_sound
from alm_cli.commands.speech_manifest import Manifest
from alm_cli.commands.speech_settings import Settings, Target
from alm_cli.errors import AlmError, InputError, UsageError
from alm_cli.files.ledger import Ledger
from alm_cli.jobs.report import Report, weight
from alm_cli.jobs.run import explain, follow
from alm_cli.jobs.sinks import fresh_file, occupied, sweep
from alm_cli.jobs.sources import Item
from alm_cli.jobs.task import Outcome, Summary, Task

if TYPE_CHECKING:
    from alm_cli.files.texts import Record
    from alm_cli.systems.align import Aligner
    from alm_cli.systems.speaker import Speaker, Spoken
    from alm_cli.systems.speech import Narrator, Said, Speech, Work

_SEEDS = 2**32


class Speaking:
    """The work of one `alm speak`: texts, how and where to say them."""

    def __init__(
        self, settings: Settings, target: Target, records: Sequence[Record], report: Report
    ) -> None:
        self.settings, self.target, self.records, self.report = settings, target, records, report
        self._ledger = Ledger()
        self._voices: dict[str | None, object] = {}
        self._texts = {record.id: record.text for record in records}
        self._manifest: Manifest | None = None
        self._aligner: Aligner | None = None

    def run(self) -> Summary:
        """Say all texts. UsageError: the only one cannot be said."""
        tasks = {id(record): self._task(record) for record in self.records}
        if self.target.many and self.target.output is not None:
            self._manifest = Manifest(self.target.output, self.target.existing)
            self._manifest.seed = self.seed
        if self.settings.from_tokens is None:
            typer.echo(f"seed {self.seed}", err=True)
        if any(task.problem is None for task in tasks.values()):
            self._begin()
        only = None if self.target.many else self._only(tasks)
        outcomes = self._one(*only) if only is not None else self._all(tasks)
        self.report.start(len(tasks), sum(map(weight, tasks.values())))
        try:
            return follow(self._noted(outcomes), self.report)
        finally:
            if self._manifest is not None:
                self._manifest.finish([record.id for record in self.records])

    @cached_property
    def seed(self) -> int:
        """The seed that was given, that of the run which this one resumes, or any."""
        if self.settings.seed is not None:
            return self.settings.seed
        earlier = self._manifest.seed if self._manifest is not None else None
        return secrets.randbelow(_SEEDS) if earlier is None else earlier

    @cached_property
    def speaker(self) -> Speaker:
        """The model, loaded."""
        from alm_cli.systems.speaker import load_speaker

        settings = self.settings
        if settings.accept_license:
            accept_by_name(settings.model)
        return load_speaker(
            settings.model, device=settings.device, dtype=settings.dtype, threads=settings.threads
        )

    @cached_property
    def narrator(self) -> Narrator:
        """The model with all that is needed for whole texts."""
        from alm_cli.systems.speech import Narrator

        if self.settings.verify_model is None:
            return Narrator(self.speaker)
        from alm_cli.systems.proof import Proofreader
        from alm_cli.systems.transcriber import load_transcriber

        recogniser = load_transcriber(
            self.settings.verify_model, device=self.settings.device, threads=self.settings.threads
        )
        return Narrator(self.speaker, Proofreader(recogniser))

    @cached_property
    def before(self) -> Spoken | None:
        """What is gone on from. InputError: this model cannot."""
        from alm_cli.systems.continuing import clip_before

        clip = self.settings.before
        return None if clip is None else clip_before(self.speaker, Path(clip))

    def _begin(self) -> None:
        """Load what has to be there before the first text, so that its lack fails all at once."""
        if self.settings.from_tokens is None:
            _ = self.narrator, self.before, self._voice(self.settings.voice)

    def _task(self, record: Record) -> Task:
        label = record.id if self.target.many or record.text == "" else record.text[:40]
        label = re.sub(r"\s+", " ", label).strip()
        item = Item(None, PurePath("speech"), len(record.text), label=label)
        task = Task(item, self._outputs(record).sound, record.problem)
        if self.target.many:
            task.facts["id"] = record.id
        for path in self._outputs(record).all:
            problem = occupied(path, frozenset(), self.target.existing)
            if problem is not None and task.problem is None:
                hint = "--overwrite, or another -o"
                task.problem = InputError(
                    problem, f"{hint}; or --skip-existing" if self.target.many else hint
                )
        if task.target is not None:
            sweep({task.target.parent})
        return task

    def _outputs(self, record: Record) -> Outputs:
        from alm_cli.files.writer import WRITE_FORMATS, format_of

        sound, settings = self.target.output, self.settings
        if sound is not None and self.target.many:
            sound /= f"{record.file_name}{WRITE_FORMATS[settings.format or 'wav'].suffix}"
        if sound is not None and settings.format is None:
            format_of(sound)  # InputError: the suffix names none
        if settings.save_tokens is None:
            return Outputs(sound, None, settings.timestamps)
        tokens = Path(settings.save_tokens)
        if self.target.many or settings.save_tokens.endswith("/"):
            tokens /= f"{record.file_name}.alm"
        return Outputs(sound, tokens, settings.timestamps)

    def _only(self, tasks: Mapping[int, Task]) -> tuple[Task, Work | None] | None:
        """The single text, known to be one that can be said. UsageError: it is not."""
        (record,) = self.records
        task = tasks[id(record)]
        if task.problem is not None:
            return None
        if self.settings.from_tokens is not None:
            return task, None
        try:
            return task, self._work(record, task)
        except InputError as error:
            raise UsageError(error.message, error.hint) from error

    def _work(self, record: Record, task: Task) -> Work:
        """A text in pieces, and how to say them. InputError names what cannot be said."""
        from alm_cli.systems.speech import SpeechAsk, Work
        from alm_cli.text.lines import PAUSE_S, cut
        from alm_cli.text.markup import parse
        from alm_cli.text.reading import read_aloud

        settings, asked = self.settings, dict(record.asked)
        speed = asked.get("speed", settings.speed)
        ask = SpeechAsk(
            seed=asked.get("seed", self.seed),
            voice=self._voice(asked.get("voice", settings.voice)),
            temperature=asked.get("temperature", settings.temperature),
            top_k=asked.get("top_k", settings.top_k),
            top_p=asked.get("top_p", settings.top_p),
            speed=speed,
            duration_s=asked.get("duration", settings.duration_s),
            before=self.before,
        )
        ask.line("", 0, None)  # UsageError: a number out of its range
        pause_s = asked.get("pause", settings.pause_s)
        parts = parse(
            record.text, settings.markup, strict=settings.strict, warn=task.warnings.append
        )
        english = _is_english(self.speaker) and not settings.as_written
        pieces = cut(
            parts,
            self.speaker.longest,
            (lambda text: read_aloud(text, task.warnings.append)) if english else _unread,
            PAUSE_S / speed if pause_s is None else pause_s,
        )
        self.narrator.check(pieces)
        return Work(pieces, ask)

    def _voice(self, name: str | None) -> object:
        if name not in self._voices:
            self._voices[name] = self.speaker.voice(name)
        return self._voices[name]

    def _noted(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        for outcome in outcomes:
            if self._manifest is not None:
                self._manifest.note(outcome, self._texts[outcome.task.item.label])
            yield outcome

    def _one(self, task: Task, work: Work | None) -> Iterator[Outcome]:
        """The outcome of the only text."""
        task.began = began = time.perf_counter()
        record = self.records[0]
        try:
            if work is None:
                speech = self._replayed()
                self._finish(task, record, speech, time.perf_counter() - began)
            elif self.settings.stream:
                self._streamed(task, record, work)
            else:
                (found,) = self.narrator.say([work])
                if isinstance(found, AlmError):
                    raise found
                self._finish(task, record, found, time.perf_counter() - began)
        except BrokenPipeError:
            raise
        except Exception as error:  # told like any other failure
            yield Outcome(task=task, status="failed", error=explain(error))
            return
        yield Outcome(task=task, status="done", wall_s=time.perf_counter() - began)

    def _all(self, tasks: Mapping[int, Task]) -> Iterator[Outcome]:
        """The outcomes of many texts, those of about one length together."""
        works: list[tuple[Record, Task, Work]] = []
        for record in self.records:
            task = tasks[id(record)]
            problem, reason = task.problem, ""
            if problem is None:
                try:
                    work = self._work(record, task)
                    reason = self._needless(record, task)
                    if not reason:
                        works.append((record, task, work))
                except AlmError as error:
                    problem = error
            if problem is not None:
                yield Outcome(task=task, status="failed", error=problem)
            elif reason:
                yield Outcome(task=task, status="skipped", reason=reason)
        # Neighbours in length end together, so no row of a batch waits long for another.
        works.sort(key=lambda work: sum(len(piece.text) for piece in work[2].pieces))
        for start in range(0, len(works), self.settings.batch_size):
            yield from self._together(works[start : start + self.settings.batch_size])

    def _together(self, works: Sequence[tuple[Record, Task, Work]]) -> Iterator[Outcome]:
        began = time.perf_counter()
        for _, task, _ in works:
            task.began = began
        found = self.narrator.say([work for _, _, work in works])
        wall_s = time.perf_counter() - began
        total = sum(0.0 if isinstance(one, AlmError) else one.seconds for one in found) or 1.0
        for (record, task, _), one in zip(works, found, strict=True):
            if isinstance(one, AlmError):
                yield Outcome(task=task, status="failed", error=one)
                continue
            share = wall_s * one.seconds / total
            try:
                self._finish(task, record, one, share)
                self._ledger.note(self._place(task), self._made(record))
            except Exception as error:  # one bad output must not stop the others
                yield Outcome(task=task, status="failed", error=explain(error))
                continue
            yield Outcome(task=task, status="done", wall_s=share)

    def _needless(self, record: Record, task: Task) -> str:
        """Why a text needs not be said, or nothing."""
        if not self.target.skip:
            return ""
        state = self._ledger.state(self._place(task), self._made(record))
        if state == "current":
            return "its sound is there and still valid"
        if state == "foreign":
            return "its sound was edited or made elsewhere (--overwrite replaces it)"
        return ""

    def _made(self, record: Record) -> Mapping[str, Any]:
        """What must be the same for two runs to make the same sound."""
        settings = self.settings
        asked = {
            name: getattr(settings, name)
            for name in ("voice", "temperature", "top_k", "top_p", "speed", "duration_s", "pause_s")
            + ("markup", "as_written", "format", "before", "verify_model", "dtype")
        }
        return {
            **asked,
            "seed": self.seed,
            "text": record.text,
            "record": dict(record.asked),
            "model": self.speaker.name,
            "weights": self.speaker.weights_sha256,
            "program": __version__,
        }

    def _place(self, task: Task) -> Path:
        assert task.target is not None
        return task.target

    def _streamed(self, task: Task, record: Record, work: Work) -> None:
        """Write while the model speaks."""
        stream, began = self.narrator.stream(work), time.perf_counter()
        pieces: tuple[Said, ...] = ()

        def blocks() -> Iterator[Any]:
            nonlocal pieces
            while True:
                try:
                    samples = next(stream)
                except StopIteration as end:
                    pieces = end.value
                    return
                if len(samples):
                    task.facts.setdefault("first_s", round(time.perf_counter() - began, 3))
                    yield samples

        rate = self.speaker.rate
        self._write(task, record, blocks(), rate, None)
        self._describe(task, record, pieces, rate, time.perf_counter() - began)

    def _finish(self, task: Task, record: Record, speech: Speech, wall_s: float) -> None:
        """Write what was said, and note what it comes to."""
        self._write(task, record, iter([speech.samples]), speech.rate, len(speech.samples))
        self._describe(task, record, speech.pieces, speech.rate, wall_s)

    def _write(
        self, task: Task, record: Record, blocks: Iterator[Any], rate: int, length: int | None
    ) -> None:
        place: Path | BinaryIO = sys.stdout.buffer
        comment = comment_of(self._facts(record)) if self.settings.from_tokens is None else None
        if task.target is None:
            written = write_sound(place, blocks, rate, self.settings.format, None, comment)
        else:
            from alm_cli.files.writer import format_of

            format = self.settings.format or format_of(task.target)
            with fresh_file(task.target) as path:
                written = write_sound(path, blocks, rate, format, length, comment)
        samples, clipped = written
        task.seconds = task.length_s = samples / rate
        if clipped:
            task.warnings.append(f"{clipped} samples beyond full scale were clipped")

    def _facts(self, record: Record) -> dict[str, Any]:
        return {
            "model": self.speaker.name,
            "weights_sha256": self.speaker.weights_sha256,
            "voice": record.asked.get("voice", self.settings.voice),
            "seed": record.asked.get("seed", self.seed),
        }

    def _describe(
        self, task: Task, record: Record, pieces: Sequence[Said], rate: int, wall_s: float
    ) -> None:
        """Note what is known of the sound, and write what goes with it."""
        outputs = self._outputs(record)
        if self.settings.from_tokens is None:
            task.facts |= self._facts(record)
            if outputs.tell_words and not all(piece.words for piece in pieces):
                pieces = self._with_words(pieces, rate)
            outputs.write(pieces, self.speaker.name, self.speaker.weights_sha256)
        task.facts |= {"rate": rate, "pieces": len(pieces)}
        task.facts["rtf"] = round(wall_s / max(1e-9, task.seconds), 4)
        if outputs.further:
            task.facts["outputs"] = [str(path) for path in outputs.further]
        proofs = [piece.proof for piece in pieces if piece.proof is not None]
        if proofs and self.settings.verify_model is not None:
            from alm_cli.systems.proof import summary

            again = sum(piece.attempts - 1 for piece in pieces)
            task.facts["verified"] = summary(proofs, again, self.settings.verify_model)
            bad = [piece.text for piece in pieces if piece.proof and not piece.proof.good]
            task.warnings += [f"not understood: {text}" for text in bad]

    def _with_words(self, pieces: Sequence[Said], rate: int) -> Sequence[Said]:
        """The pieces with the times of words that the model does not tell, if it is English."""
        from alm_cli.systems.align import load_aligner
        from alm_cli.systems.said_words import with_words

        if not _is_english(self.speaker):
            return pieces
        if self._aligner is None:
            self._aligner = load_aligner(device="cpu", threads=self.settings.threads)
        return with_words(pieces, rate, self._aligner)

    def _replayed(self) -> Speech:
        from alm_cli.systems.continuing import replayed

        return replayed(Path(self.settings.from_tokens or ""), self.settings.device)


def accept_by_name(model: str) -> None:
    """Remember that the user accepts the licence of a catalogued model; folders have none."""
    from alm_cli.catalog import CATALOG
    from alm_cli.checkpoints.licences import accept

    for card in CATALOG:
        if card.name == model:
            accept(card)


def _is_english(speaker: Speaker) -> bool:
    """Whether a model says English, and so gets text as it is read in English."""
    from alm_cli.catalog import CATALOG

    language = getattr(speaker, "language", None)
    if language is not None:
        return bool(language == "en")
    return any(card.name == speaker.name and "English" in card.note for card in CATALOG)


def _unread(text: str) -> str:
    """A paragraph as it is written, in one line."""
    return re.sub(r"\s+", " ", text).strip()
