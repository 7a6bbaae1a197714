"""Where the sounds go that commands make of texts: a file, a folder, numbered files, or a pipe."""

from __future__ import annotations

import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alm_cli.errors import UsageError
from alm_cli.jobs.sinks import STDOUT, Existing

if TYPE_CHECKING:
    from alm_cli.files.texts import Record


@dataclass(frozen=True)
class Target:
    """A file, a folder for `many`, or None for standard output, and what if something is there.

    `numbered` are many too, in files beside one another: `out-1.wav`, `out-2.wav`.
    """

    output: Path | None
    _: KW_ONLY
    many: bool
    overwrite: bool
    skip: bool
    numbered: bool = False

    @property
    def existing(self) -> Existing:
        """What to do about outputs that are there."""
        return "skip" if self.skip else "overwrite" if self.overwrite else "refuse"

    @property
    def folder(self) -> Path | None:
        """That of many, which gets a manifest."""
        return self.output if self.many and not self.numbered else None

    def sound(self, record: Record, suffix: str) -> Path | None:
        """The file for the sound of a record; `suffix` is that of its format."""
        if self.output is None:
            return None
        return self.beside(str(self.output), record, suffix) if self.many else self.output

    def beside(self, given: str, record: Record, suffix: str) -> Path:
        """The file for something else of a record, where `given` is what an option says."""
        path = Path(given)
        if given.endswith("/") or (self.many and not self.numbered):
            return path / f"{record.file_name}{suffix}"
        if self.numbered:
            return path.with_name(f"{path.stem}-{record.number}{path.suffix}")
        return path


def target_of(
    output: str | None, batch: str | None, *, what: str, skip: bool, overwrite: bool
) -> Target:
    """Where to write what is made of a text. UsageError: the options contradict each other."""
    if skip and overwrite:
        raise UsageError("--skip-existing and --overwrite exclude each other")
    if batch is None:
        if skip:
            raise UsageError("--skip-existing is for --batch")
        if output is not None and (output.endswith("/") or Path(output).is_dir()):
            raise UsageError(f"-o {output}: a folder, where one {what} makes a file")
        place = None if output in (None, STDOUT) else Path(output)
        return Target(place, many=False, overwrite=overwrite, skip=False)
    if output is None or output == STDOUT:
        raise UsageError("--batch writes many files", hint="name their folder, with -o DIR")
    if Path(output).exists() and not Path(output).is_dir():
        raise UsageError(f"-o {output}: a file, where --batch needs a folder")
    return Target(Path(output), many=True, overwrite=overwrite, skip=skip)


def check_stdout(target: Target, *, json: bool) -> None:
    """UsageError: the sound goes where something else goes, or to people's eyes."""
    if target.output is not None:
        return
    if json:
        raise UsageError("--json and the sound cannot both go to standard output", hint="-o FILE")
    if sys.stdout.isatty():
        hint = f"-o FILE, or -o {STDOUT} into a pipe"
        raise UsageError("sound is binary and standard output is a terminal", hint=hint)
