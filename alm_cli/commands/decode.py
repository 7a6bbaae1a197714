"""`alm decode`: token files in, audio out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from alm_cli.catalog import CATALOG
from alm_cli.commands import options
from alm_cli.commands.batch import Batch
from alm_cli.errors import AlmError, InputError, ModelError, UsageError
from alm_cli.jobs.run import Steps
from alm_cli.jobs.sinks import fresh_file, is_newer
from alm_cli.jobs.task import Skip, Task

if TYPE_CHECKING:
    from alm_cli.systems.codec import Codec, DecodeAsk
    from alm_cli.systems.decode_stream import DecodeStream
    from alm_cli.values import Audio, Latents, Tokens

# By how much the length of audio that was written may differ from that of its tokens.
_ROUGHLY_S = 0.1

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        show_default="the one that each file names",
        help="The codec to decode with.",
        autocompletion=options.model_names,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        show_default="by the suffix of OUT, or wav",
        help="wav, wav24, wavf (float), flac, ogg, opus, mp3, or raw samples such as s16le.",
    ),
]
Rate = Annotated[
    int | None,
    typer.Option(
        min=4000,
        max=384_000,
        metavar="HZ",
        show_default="that of the recording",
        help="The sample rate to write.",
    ),
]
Decoder = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        help="Decode with another model than the codec, such as Vocos in place of EnCodec.",
        autocompletion=options.model_names,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", show_default="0", help="The seed of decoders that add noise, as SNAC."
    ),
]
NoNoise = Annotated[bool, typer.Option("--no-noise", help="Let such decoders add no noise.")]
Force = Annotated[
    bool, typer.Option("--force", help="Decode tokens that were made with other weights.")
]


def decode(
    inputs: options.Inputs = None,
    output: options.Output = None,
    model: Model = None,
    codebooks: options.Codebooks = None,
    format: Format = None,
    rate: Rate = None,
    decoder: Decoder = None,
    seed: Seed = None,
    no_noise: NoNoise = False,
    force: Force = False,
    from_list: options.FromList = None,
    recursive: options.Recursive = False,
    skip_existing: options.SkipExisting = False,
    overwrite: options.Overwrite = False,
    batch_size: options.BatchSize = options.AUTO,
    device: options.Device = options.AUTO,
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Turn token files back into audio."""
    batch = Batch(
        "decode",
        inputs or (),
        output,
        from_list=from_list,
        recursive=recursive,
        skip_existing=skip_existing,
        overwrite=overwrite,
        together=batch_size,
        json=json,
        quiet=quiet,
        verbose=verbose,
    )
    if seed is not None and no_noise:
        raise UsageError("--seed and --no-noise exclude each other")
    for name in (model, decoder):
        if name is not None:
            options.check_model(name)

    from alm_cli.files.audio import WRITE_FORMATS
    from alm_cli.files.tokens import TOKEN_SUFFIX

    if format is not None and format not in WRITE_FORMATS:
        raise UsageError(f"--format {format}: not one of {', '.join(WRITE_FORMATS)}")
    tasks = batch.tasks({TOKEN_SUFFIX}, WRITE_FORMATS[format or "wav"].suffix)

    def steps() -> Steps[Tokens | Latents, Audio]:
        from alm_cli.systems.codec import DecodeAsk, load_codec

        load = partial(load_codec, device=device, dtype=dtype, threads=threads, decoder=decoder)
        ask = DecodeAsk(
            codebooks=codebooks, rate=rate, force=force, noise_seed=None if no_noise else seed or 0
        )
        decoding = Decoding(Codecs(load, model), ask, format, skip_existing)
        return Steps(decoding.read, decoding.work, decoding.write)

    batch.run(tasks, steps)


class Codecs:
    """The codecs that files ask for, each loaded once; or the one that the user chose."""

    def __init__(self, load: Callable[[str], Codec], chosen: str | None) -> None:
        self._load = load
        self._chosen = chosen
        self._known: dict[str, Codec] = {}
        self._lock = Lock()
        if chosen is not None:
            self.get(chosen)

    def get(self, name: str) -> Codec:
        """The codec for tokens of `name`. ModelError: there is none."""
        if self._chosen is None and all(card.name != name for card in CATALOG):
            # A path, too, may stand in a file that somebody sent: only the user names folders.
            raise ModelError(
                f"made by the codec {name!r}, which alm does not know",
                hint="--model names the folder of its weights",
            )
        name = self._chosen or name
        with self._lock:
            if name not in self._known:
                self._known[name] = self._load(name)
            return self._known[name]


@dataclass(frozen=True)
class Decoding:
    """The steps of one `alm decode`."""

    codecs: Codecs
    ask: DecodeAsk
    format: str | None
    skip_existing: bool

    def read(self, task: Task) -> Iterator[Tokens | Latents]:
        """The segments of a token file, each as soon as it is there."""
        from alm_cli.files.tokens import iter_tokens

        if self.skip_existing and self._is_current(task):
            raise Skip("its audio is there and still valid")
        path = task.item.path
        with nullcontext(sys.stdin.buffer) if path is None else path.open("rb") as file:
            yield from iter_tokens(file, name=task.item.name)

    def work(self, task: Task, segments: Iterator[Tokens | Latents]) -> Iterator[Audio]:
        """The audio of each segment, in blocks."""
        from alm_cli.values import Audio, Tokens

        stream: DecodeStream | None = None
        for tokens in segments:
            if not isinstance(tokens, Tokens):
                raise InputError("holds features, not tokens", hint="no codec here decodes them")
            if stream is None:
                stream = self._decoder(tokens)
                task.length_s = tokens.origin.seconds if tokens.origin.final else None
                task.facts |= {"codec": tokens.origin.codec, "codebooks": tokens.codebooks}
            for samples in stream.push(tokens):
                task.seconds += samples.shape[1] / stream.rate
                yield Audio(samples, stream.rate)

    def write(self, task: Task, blocks: Iterator[Audio]) -> None:
        """Write the blocks as they come."""
        from alm_cli.files.audio import format_of

        first = next(blocks, None)
        if first is None:
            raise InputError("holds no audio")
        blocks = chain([first], blocks)
        if task.target is None:
            self._write(task, sys.stdout.buffer, self.format or "wav", blocks)
            return
        format = self.format or format_of(task.target)
        with fresh_file(task.target) as path:
            self._write(task, path, format, blocks)
            task.facts["bytes"] = path.stat().st_size

    def _decoder(self, tokens: Tokens) -> DecodeStream:
        codec = self.codecs.get(tokens.origin.codec)
        return codec.decoder(**asdict(self.ask))

    def _write(
        self, task: Task, file: Path | BinaryIO, format: str, blocks: Iterator[Audio]
    ) -> None:
        from alm_cli.files.audio import open_writer

        first = next(blocks)
        rate, channels = first.rate, first.channels
        with open_writer(file, rate=rate, channels=channels, format=format) as writer:
            for audio in chain([first], blocks):
                if (audio.rate, audio.channels) != (rate, channels):
                    hint = "decode them one by one, or give --rate"
                    raise InputError("holds recordings of different rates or channels", hint=hint)
                writer.write(audio.samples)
        task.facts |= {"rate": rate, "channels": channels, "clipped": writer.clipped}
        if writer.clipped:
            task.warnings.append(f"{writer.clipped} samples beyond full scale were clipped")

    def _is_current(self, task: Task) -> bool:
        """Whether the output is newer than the tokens and has their rate, channels and length.

        Audio does not tell with how many codebooks it was decoded, so that is not compared.
        """
        from alm_cli.files.audio import probe_audio
        from alm_cli.files.tokens import probe_tokens

        if task.item.path is None or not is_newer(task.target, task.item.path):
            return False
        try:
            info, audio = probe_tokens(task.item.path), probe_audio(task.target)
        except AlmError:
            return False
        rate = self.ask.rate or info.origin.source_rate
        # Compressed audio may be padded or tell its length only roughly.
        exact = audio.length is None or abs(audio.length / rate - info.origin.seconds) < _ROUGHLY_S
        return exact and (audio.rate, audio.channels) == (rate, info.streams * info.origin.channels)
