"""The work of `alm generate-music`: from prompts through a composer into files and a manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import category

from alm_cli import __version__
from alm_cli.commands.making import SEEDS, Heard, Making, accept_by_name
from alm_cli.commands.music_clips import read_melody, read_past
from alm_cli.commands.music_settings import LONGEST_S, MusicSettings, check_duration
from alm_cli.commands.targets import Target
from alm_cli.errors import AlmError, InputError
from alm_cli.jobs.report import Report, printable
from alm_cli.jobs.run import explain
from alm_cli.jobs.sinks import fresh_file
from alm_cli.jobs.task import Task

if TYPE_CHECKING:
    from alm_cli.commands.making import Samples
    from alm_cli.files.texts import Record
    from alm_cli.music.score import Score
    from alm_cli.systems.composer import Composer, Music, Piece
    from alm_cli.values import Audio, Tokens

_LONGEST_PROMPT = 4096
# What belongs to lines of text, of all that controls.
_BLANK = frozenset("\t\n\r\f\v")


@dataclass(frozen=True)
class Composed:
    """A piece of music, and the rate of its samples."""

    music: Music
    rate: int

    @property
    def seconds(self) -> float:
        return self.music.samples.shape[1] / self.rate


class Composing(Making["Piece", Composed]):
    """The work of one `alm generate-music`: prompts, how and where to make music of them."""

    command, noun, what = "generate-music", "music", "prompt"
    noted = ("seed", "rtf", "model", "weights_sha256", "rate", "channels", "understood", "outputs")
    settings: MusicSettings

    def __init__(
        self, settings: MusicSettings, target: Target, records: Sequence[Record], report: Report
    ) -> None:
        super().__init__(settings, target, records, report)
        self._melodies: dict[str, Audio | Score] = {}
        self._pasts: dict[str, Audio | Tokens] = {}

    @cached_property
    def composer(self) -> Composer:
        """The model, loaded. ModelError: it is not there, or larger than the memory."""
        from alm_cli.systems.composer import load_composer
        from alm_cli.systems.room import require_room

        settings = self.settings
        if settings.accept_license:
            accept_by_name(settings.model)
        require_room(
            settings.model,
            device=settings.device,
            dtype=settings.dtype,
            seconds=max((s for s in map(self._seconds, self.records) if s <= LONGEST_S), default=0),
            pieces=min(settings.batch_size, len(self.records)),
        )
        return load_composer(
            settings.model, device=settings.device, dtype=settings.dtype, threads=settings.threads
        )

    def begin(self) -> None:
        if self.settings.from_tokens is not None:
            return
        _ = self._melody(self.settings.melody), self._past(self.settings.before)
        knows = getattr(self.composer, "scores", True)
        if self.settings.save_score is not None and not knows:
            raise _no_score(self.composer.name)

    def outputs(self, record: Record) -> Sequence[Path]:
        return [path for path in (self.sound(record), *self._further(record)) if path is not None]

    def size(self, record: Record) -> int:
        return round(1000 * self._seconds(record))

    def length(self, work: Piece) -> float:
        return work.seconds

    def seconds(self, made: Composed) -> float:
        return made.seconds

    @property
    def streams(self) -> bool:
        # Streamed or whole the samples are the same; streamed, one sees how far they are.
        return True

    @cached_property
    def inputs(self) -> frozenset[str]:
        settings = self.settings
        asked = [
            record.asked.get(name) for record in self.records for name in ("melody", "continue")
        ]
        named = (settings.melody, settings.before, settings.from_tokens, *asked)
        return frozenset(os.path.realpath(clip) for clip in named if clip is not None)

    def work(self, record: Record, task: Task) -> Piece:
        from alm_cli.systems.composer import Piece

        settings, asked = self.settings, dict(record.asked)
        check_prompt(record.text)
        seconds = self._seconds(record)
        check_duration(seconds)
        piece = Piece(
            prompt=" ".join(record.text.split()),
            seconds=seconds,
            seed=self._seed(record),
            guidance=asked.get("guidance", settings.guidance),
            temperature=asked.get("temperature", settings.temperature),
            top_k=asked.get("top_k", settings.top_k),
            top_p=asked.get("top_p", settings.top_p),
            melody=self._melody(asked.get("melody", settings.melody)),
            past=self._past(asked.get("continue", settings.before)),
            loop=asked.get("loop", settings.loop),
        )
        task.warnings += self.composer.check(piece)
        return piece

    def together(self, works: Sequence[Piece]) -> Sequence[Composed | AlmError]:
        """Pieces as a batch; where that fails, each alone, so that one error has one cause."""
        try:
            made = self.composer.compose(works)
        except Exception as error:  # one bad piece must not stop the others
            if len(works) == 1:
                told = explain(error)
                told.__cause__ = error if told is not error else error.__cause__
                return [told]
            return [self.together([work])[0] for work in works]
        return [Composed(music, self.composer.rate) for music in made]

    def stream(self, task: Task, record: Record, work: Piece) -> None:
        began = time.perf_counter()
        heard = Heard(self.composer.stream(work), task)
        blocks, length = self._watched(task, heard, work.seconds), None
        if not self.settings.stream:
            whole = list(blocks)
            blocks, length = iter(whole), sum(block.shape[1] for block in whole)
        self._write(task, record, blocks, length, lambda: heard.value)
        self._describe(task, record, heard.value, time.perf_counter() - began)

    def keep(self, task: Task, record: Record, made: Composed, wall_s: float) -> None:
        samples = made.music.samples
        if self.settings.from_tokens is None:
            self._write(task, record, iter([samples]), samples.shape[1], lambda: made.music)
            self._describe(task, record, made.music, wall_s)
            return
        channels, length = samples.shape
        form = {"rate": made.rate, "channels": channels}
        self.write(task, iter([samples]), **form, length=length, facts=None)
        task.facts |= {**form, "rtf": round(wall_s / max(1e-9, task.seconds), 4)}

    def replay(self) -> Composed:
        from alm_cli.systems.composer import Music
        from alm_cli.systems.continuing import heard_again

        audio = heard_again(Path(self.settings.from_tokens or ""), self.settings.device)
        return Composed(Music(samples=audio.samples), audio.rate)

    def facts(self, record: Record) -> dict[str, Any]:
        settings, asked = self.settings, record.asked
        drawn = ("guidance", "temperature", "top_k", "top_p")
        told = {name: asked.get(name, getattr(settings, name)) for name in drawn}
        return {
            "model": self.composer.name,
            "weights_sha256": self.composer.weights_sha256,
            "seed": self._seed(record),
            "duration": self._seconds(record),
            **{name: value for name, value in told.items() if value is not None},
            "prompt": " ".join(record.text.split()),
        }

    def identity(self, record: Record) -> Mapping[str, Any]:
        settings = self.settings
        names = ("guidance", "temperature", "top_k", "top_p", "duration_s", "melody", "before")
        return {
            **{name: getattr(settings, name) for name in (*names, "loop", "format", "dtype")},
            "seed": self._seed(record),
            "prompt": record.text,
            "record": dict(record.asked),
            "model": self.composer.name,
            "weights": self.composer.weights_sha256,
            "program": __version__,
        }

    def _seconds(self, record: Record) -> float:
        return float(record.asked.get("duration", self.settings.duration_s))

    def _seed(self, record: Record) -> int:
        return int(record.asked.get("seed", self.seed) + record.number - 1) % SEEDS

    def _further(self, record: Record) -> tuple[Path | None, Path | None]:
        """The files for the tokens and the score."""
        kinds = ((self.settings.save_tokens, ".alm"), (self.settings.save_score, ".mid"))
        tokens, score = (
            None if given is None else self.target.beside(given, record, suffix)
            for given, suffix in kinds
        )
        return tokens, score

    def _melody(self, name: str | None) -> Audio | Score | None:
        if name is not None and name not in self._melodies:
            self._melodies[name] = read_melody(Path(name))
        return None if name is None else self._melodies[name]

    def _past(self, name: str | None) -> Audio | Tokens | None:
        if name is not None and name not in self._pasts:
            self._pasts[name] = read_past(Path(name), self.composer.codec)
        return None if name is None else self._pasts[name]

    def _watched(self, task: Task, heard: Iterable[Samples], seconds: float) -> Iterator[Samples]:
        """The samples, while people see how many seconds there are."""
        task.length_s = seconds
        self.report.tick((task,))
        for samples in heard:
            task.seconds += samples.shape[1] / self.composer.rate
            self.report.tick((task,))
            yield samples

    def _write(
        self,
        task: Task,
        record: Record,
        blocks: Iterator[Samples],
        length: int | None,
        music: Callable[[], Music],
    ) -> None:
        """Write the sound, and what goes with it, or nothing of these."""

        def further() -> None:
            for path, data in self._files(record, music()).items():
                with fresh_file(path) as fresh:
                    fresh.write_bytes(data)

        rate, channels = self.composer.rate, self.composer.channels
        facts = self.facts(record)
        self.write(
            task, blocks, rate=rate, channels=channels, length=length, facts=facts, last=further
        )

    def _files(self, record: Record, music: Music) -> dict[Path, bytes]:
        """Tokens and notes, as bytes. InputError: the model has none to keep."""
        tokens, score = self._further(record)
        found: dict[Path, bytes] = {}
        if tokens is not None:
            from alm_cli.files.tokens import to_bytes

            if music.tokens is None:
                told = f"{self.composer.name} makes music without tokens"
                raise InputError(told, hint="do without --save-tokens")
            origin = music.tokens.origin
            notes = {"text": " ".join(record.text.split()), **origin.notes}
            noted = replace(music.tokens, origin=replace(origin, notes=notes))
            found[tokens] = to_bytes(noted)
        if score is not None:
            from alm_cli.music.midi import write_midi

            if music.score is None:
                raise _no_score(self.composer.name)
            found[score] = write_midi(music.score)
        return found

    def _describe(self, task: Task, record: Record, music: Music, wall_s: float) -> None:
        """Note what is known of the music."""
        task.facts |= self.facts(record)
        task.facts |= {"rate": self.composer.rate, "channels": self.composer.channels}
        task.facts["rtf"] = round(wall_s / max(1e-9, task.seconds), 4)
        if music.facts:
            task.facts["understood"] = dict(music.facts)
            if self.report.verbose:
                told = ", ".join(f"{name} {value}" for name, value in music.facts.items())
                self.report.say(f"understood: {printable(told)}")
        if further := [str(path) for path in self._further(record) if path is not None]:
            task.facts["outputs"] = further


def check_prompt(text: str) -> None:
    """InputError: it holds no words, or is no text."""
    if not text.strip():
        raise InputError("there is nothing to play: the prompt is empty")
    if len(text) > _LONGEST_PROMPT:
        raise InputError(f"the prompt has {len(text)} characters, above {_LONGEST_PROMPT}")
    for character in text:
        # Bytes of the command line that are no text are surrogates, of category Cs.
        if category(character) in ("Cc", "Cs") and character not in _BLANK:
            code = f"U+{ord(character):04X}"
            raise InputError(f"the prompt is no plain text: it holds the character {code}")


def _no_score(name: str) -> InputError:
    return InputError(f"{name} knows no score of its music", hint="do without --save-score")
