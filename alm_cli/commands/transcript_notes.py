"""What `alm transcribe` tells of a transcript: the recording, the model, how much is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from alm_cli.jobs.task import Task

if TYPE_CHECKING:
    from alm_cli.files.audio import AudioReader
    from alm_cli.values import Segment

NOBODY = "no speech was found in it"


class Counted:
    """Segments on their way: how many there were, and words, and in which language."""

    def __init__(self, segments: Iterable[Segment], language: str | None) -> None:
        self._source = segments
        self._asked = language
        self.segments = self.words = 0
        self._found: str | None = None

    @property
    def language(self) -> str | None:
        """That of the first segment that knows, else the one that was asked for."""
        return self._found or self._asked

    def __iter__(self) -> Iterator[Segment]:
        for segment in self._source:
            self.segments += 1
            self.words += len(segment.words) or len(segment.text.split())
            self._found = self._found or segment.language
            yield segment


def note_input(task: Task, reader: AudioReader) -> None:
    """What was odd about the recording."""
    task.facts |= {
        "rate": reader.rate,
        "channels": reader.channels,
        "clipped": reader.clipped,
        "nonfinite": reader.nonfinite,
        "truncated": reader.truncated,
    }
    if reader.truncated:
        task.warnings.append("ends before its header says; what is there was transcribed")
    if reader.clipped:
        task.warnings.append(f"{reader.clipped} samples lie beyond full scale")
    if reader.nonfinite:
        task.warnings.append(f"{reader.nonfinite} samples were not numbers and became silence")


def note_model(task: Task, device: str, dtype: str, acceptance: float | None) -> None:
    """How the model computed, where that is not as usual.

    `acceptance`: which share of the drafted tokens was right, of all in this run so far.
    """
    if acceptance is not None:
        task.facts["drafts_accepted"] = round(acceptance, 4)
    if dtype == "float32":
        return
    task.facts["dtype"] = dtype
    if dtype != "int8":
        from alm_cli.runtime import device_of, dtype_of, is_emulated

        if is_emulated(device_of(device), dtype_of(dtype)):
            told = f"{dtype}: rounded, and float32 is faster on this processor"
            task.warnings.append(told)
