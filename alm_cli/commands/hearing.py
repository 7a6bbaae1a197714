"""What recognisers hear of a recording: mono samples at 16 kHz, and again from the beginning.

Pipes are kept on disk meanwhile, unless they are live streams.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from alm_cli.errors import AlmError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alm_cli.files.audio import AudioReader, RawFormat

    Samples = NDArray[np.float32]

# What messages call what came from a pipe.
_PIPE = "<pipe>"


class Recording:
    """A recording as recognisers hear it: blocks of samples [n] at 16 kHz, from the beginning.

    The first reading is the one that has begun; for each further one the source is opened again.
    """

    def __init__(
        self,
        source: Path | BinaryIO,
        form: RawFormat | None,
        begun: Iterator[Samples],
        block_s: float,
    ) -> None:
        self._source, self._form, self._block_s = source, form, block_s
        self._begun: Iterator[Samples] | None = begun
        self._samples = 0

    def __call__(self) -> Iterator[Samples]:
        """All blocks from the first. InputError: the source can be read only once."""
        blocks, self._begun = self._begun, None
        return self._counted(self._again() if blocks is None else blocks)

    @property
    def seconds(self) -> float:
        """How much of it was heard."""
        from alm_cli.systems.transcriber import RATE

        return self._samples / RATE

    def _again(self) -> Iterator[Samples]:
        source = self._source
        if isinstance(source, Path) and not source.is_file():
            raise InputError("cannot be read twice, which this model needs", hint="give --stream")
        with opened(source, self._form) as reader:
            yield from hear(reader, self._block_s)

    def _counted(self, blocks: Iterator[Samples]) -> Iterator[Samples]:
        samples = 0
        for block in blocks:
            samples += len(block)
            self._samples = max(self._samples, samples)
            yield block


def keep(source: Path | BinaryIO) -> Path | BinaryIO:
    """The same as what can be read twice: a pipe's bytes in a temporary file. InputError."""
    from alm_cli.files.streams import ByteStream, open_file, spool

    if isinstance(source, Path) and (source.is_file() or source.is_dir() or not source.exists()):
        return source
    with open_file(source, "rb") if isinstance(source, Path) else nullcontext(source) as pipe:
        return spool(ByteStream(pipe, _PIPE))


def let_go(source: Path | BinaryIO) -> None:
    """Close what was kept."""
    if not isinstance(source, Path) and source is not sys.stdin.buffer:
        source.close()


def hear(reader: AudioReader, block_s: float) -> Iterator[Samples]:
    """What is left of a recording as recognisers hear it, [n] each."""
    from alm_cli.systems.hearing import heard

    return heard(reader.blocks(round(block_s * reader.rate)), reader.rate)


@contextmanager
def opened(source: Path | BinaryIO, form: RawFormat | None) -> Iterator[AudioReader]:
    """A reader from the beginning of a file, or of what was spooled; or of the pipe itself."""
    from alm_cli.files.audio import open_audio

    if isinstance(source, Path) or source is sys.stdin.buffer:
        with open_audio(source, raw=form) as reader:
            yield reader
        return
    # As a path, so that it is read like a file, and not spooled once more.
    source.seek(0)
    path = Path(f"/dev/fd/{source.fileno()}")
    try:
        with open_audio(path, raw=form) as reader:
            yield reader
    except AlmError as error:
        error.message = error.message.replace(str(path), _PIPE)
        raise
