"""The work of `alm speak`: from texts through a speaker into files, tokens and a manifest."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alm_cli import __version__
from alm_cli.commands.making import Heard, Making, accept_by_name
from alm_cli.commands.speech_files import Outputs
from alm_cli.commands.speech_settings import Settings
from alm_cli.commands.targets import Target
from alm_cli.errors import AlmError
from alm_cli.jobs.report import Report
from alm_cli.jobs.task import Task

if TYPE_CHECKING:
    from alm_cli.files.texts import Record
    from alm_cli.systems.align import Aligner
    from alm_cli.systems.speaker import Speaker, Spoken
    from alm_cli.systems.speech import Narrator, Said, Speech, Work


class Speaking(Making["Work", "Speech"]):
    """The work of one `alm speak`: texts, how and where to say them."""

    command, noun, what = "speak", "speech", "text"
    noted = (
        "seed",
        "rtf",
        "voice",
        "set",
        "model",
        "weights_sha256",
        "rate",
        "verified",
        "outputs",
    )
    settings: Settings

    def __init__(
        self, settings: Settings, target: Target, records: Sequence[Record], report: Report
    ) -> None:
        super().__init__(settings, target, records, report)
        self._voices: dict[str | None, object] = {}
        self._aligner: Aligner | None = None

    @cached_property
    def speaker(self) -> Speaker:
        """The model, loaded."""
        from alm_cli.systems.speaker import load_speaker

        settings = self.settings
        if settings.accept_license:
            accept_by_name(settings.model)
        return load_speaker(
            settings.model,
            device=settings.device,
            dtype=settings.dtype,
            threads=settings.threads,
            own=settings.own,
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

    def begin(self) -> None:
        if self.settings.from_tokens is None:
            _ = self.narrator, self.before, self._voice(self.settings.voice)

    def outputs(self, record: Record) -> Sequence[Path]:
        return self._outputs(record).all

    def _outputs(self, record: Record) -> Outputs:
        settings = self.settings
        tokens = settings.save_tokens and self.target.beside(settings.save_tokens, record, ".alm")
        return Outputs(self.sound(record), tokens or None, settings.timestamps)

    def size(self, record: Record) -> int:
        return len(record.text)

    def length(self, work: Work) -> float:
        return sum(len(piece.text) for piece in work.pieces)

    def seconds(self, made: Speech) -> float:
        return made.seconds

    def together(self, works: Sequence[Work]) -> Sequence[Speech | AlmError]:
        return self.narrator.say(works)

    def work(self, record: Record, task: Task) -> Work:
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

    def identity(self, record: Record) -> Mapping[str, Any]:
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
            **self._own,
        }

    def stream(self, task: Task, record: Record, work: Work) -> None:
        heard, began = Heard(self.narrator.stream(work), task), time.perf_counter()
        self._write(task, record, heard, self.speaker.rate, None)
        wall_s = time.perf_counter() - began
        self._describe(task, record, heard.value, self.speaker.rate, wall_s)

    def keep(self, task: Task, record: Record, made: Speech, wall_s: float) -> None:
        self._write(task, record, [made.samples], made.rate, len(made.samples))
        self._describe(task, record, made.pieces, made.rate, wall_s)

    def _write(
        self, task: Task, record: Record, blocks: Iterable[Any], rate: int, length: int | None
    ) -> None:
        facts = self.facts(record) if self.settings.from_tokens is None else None
        mono = (block[None] for block in blocks)
        self.write(task, mono, rate=rate, channels=1, length=length, facts=facts)

    def facts(self, record: Record) -> dict[str, Any]:
        return {
            "model": self.speaker.name,
            "weights_sha256": self.speaker.weights_sha256,
            "voice": record.asked.get("voice", self.settings.voice),
            "seed": record.asked.get("seed", self.seed),
            **self._own,
        }

    @property
    def _own(self) -> dict[str, str]:
        """The settings of the model's own, where any are given."""
        given = ",".join(f"{name}={value}" for name, value in sorted(self.settings.own.items()))
        return {"set": given} if given else {}

    def _describe(
        self, task: Task, record: Record, pieces: Sequence[Said], rate: int, wall_s: float
    ) -> None:
        """Note what is known of the sound, and write what goes with it."""
        outputs = self._outputs(record)
        if self.settings.from_tokens is None:
            task.facts |= self.facts(record)
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

    def replay(self) -> Speech:
        from alm_cli.systems.continuing import replayed

        return replayed(Path(self.settings.from_tokens or ""), self.settings.device)


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
