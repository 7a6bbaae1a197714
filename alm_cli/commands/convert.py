"""`alm convert`: token files cut, split, joined, narrowed, packed, and in forms of others."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal, cast, get_args

import typer

from alm_cli.catalog import find_card
from alm_cli.commands import options
from alm_cli.commands.batch import Batch
from alm_cli.errors import AlmError, InputError, UsageError
from alm_cli.jobs.run import Steps
from alm_cli.jobs.sinks import fresh_file, is_newer, occupied, open_sink
from alm_cli.jobs.sources import Item, find_items, read_list
from alm_cli.jobs.task import Skip, Task

if TYPE_CHECKING:
    from alm_cli.values import Latents, Origin, Tokens

Form = Literal["alm", "npy", "jsonl", "units"]

To = Annotated[
    Form | None,
    typer.Option(
        show_default="by the suffix of OUT, or alm",
        help="A token file; an array [S, K, F]; a line of JSON; or a line of text for each stream.",
    ),
]
Codebooks = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Keep the first N codebooks.")
]
Start = Annotated[
    float | None, typer.Option(min=0, metavar="S", help="Leave out what is before this time.")
]
End = Annotated[
    float | None, typer.Option(min=0, metavar="S", help="Leave out what is after this time.")
]
Join = Annotated[
    bool, typer.Option("--join", help="Make one recording of all inputs, in their order.")
]
Split = Annotated[
    float | None,
    typer.Option(metavar="S", help="Make pieces of about S seconds: OUT-0000, OUT-0001, ..."),
]
Pack = Annotated[
    Literal["bits", "entropy"],
    typer.Option(help="How token files hold codes: at once, or slowly in fewer bytes."),
]
Dedup = Annotated[
    bool,
    typer.Option("--dedup", help="Units once for each run of equal ones, then how long each is."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="The codec that npy and units are of, or a token file of it.",
        autocompletion=options.model_names,
    ),
]


def convert(
    inputs: options.Inputs = None,
    output: options.Output = None,
    to: To = None,
    codebooks: Codebooks = None,
    start: Start = None,
    end: End = None,
    join: Join = False,
    split: Split = None,
    pack: Pack = "bits",
    dedup: Dedup = False,
    model: Model = None,
    from_list: options.FromList = None,
    recursive: options.Recursive = False,
    skip_existing: options.SkipExisting = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Cut, split, join, narrow and pack token files, and turn them into other forms and back.

    No model is needed. Inputs are token files, .ecdc (without LM), .dac, .npy, .jsonl and .units.
    """
    batch = Batch(
        "convert",
        inputs or (),
        output,
        from_list=from_list,
        recursive=recursive,
        skip_existing=skip_existing,
        overwrite=overwrite,
        together=options.AUTO,
        json=json,
        quiet=quiet,
        verbose=verbose,
    )
    wanted = Wanted(to or _form_of(output), codebooks, start, end, split, pack, dedup)
    wanted.check()
    if join or split is not None:
        option = "--join" if join else "--split"
        if output is None:
            raise UsageError(f"{option} does not know where to", hint="give -o")
        if skip_existing:
            raise UsageError(f"{option} and --skip-existing exclude each other")
    like = None if model is None else _like(model)
    tasks, parts = _plan(batch, f".{wanted.form}", join)
    conversion = Conversion(wanted, like, parts, batch)
    batch.run(tasks, lambda: Steps(conversion.read, conversion.work, conversion.write))


@dataclass(frozen=True)
class Wanted:
    """What to make of each recording."""

    form: Form
    codebooks: int | None
    start_s: float | None
    end_s: float | None
    split_s: float | None
    pack: Literal["bits", "entropy"]
    merged: bool

    def check(self) -> None:
        """Raise UsageError where options contradict each other."""
        if self.merged and self.form != "units":
            raise UsageError("--dedup is for units", hint="add --to units")
        if self.pack != "bits" and self.form != "alm":
            raise UsageError(f"--pack is for token files, not for {self.form}")
        if self.end_s is not None and self.end_s <= (self.start_s or 0):
            raise UsageError(f"--end {self.end_s:g} is not after the start")
        if self.split_s is not None and not 0 < self.split_s < float("inf"):
            raise UsageError(f"--split {self.split_s:g}: must be more than 0, and finite")

    def pieces(self, value: Tokens | Latents) -> Iterator[Tokens | Latents]:
        """The recordings that become of one."""
        from alm_cli.files.repack import cut, split
        from alm_cli.files.tokens import narrow
        from alm_cli.values import Tokens

        if self.codebooks is not None:
            if not isinstance(value, Tokens):
                raise InputError("holds features, which have no codebooks")
            value = narrow(value, self.codebooks)
        if self.start_s is not None or self.end_s is not None:
            value = cut(value, self.start_s or 0.0, self.end_s)
        if self.split_s is None:
            yield value
        else:
            yield from split(value, self.split_s)

    def written(self, value: Tokens | Latents) -> bytes:
        """A recording as the bytes of a file."""
        from alm_cli.files.exports import to_npy, to_units
        from alm_cli.files.jsonl import to_jsonl
        from alm_cli.files.tokens import to_bytes
        from alm_cli.values import Tokens

        if self.form == "alm":
            return to_bytes(value, self.pack)
        if self.form == "npy":
            return to_npy(value)
        if not isinstance(value, Tokens):
            raise InputError("holds features, not tokens", hint="--to npy takes them")
        return to_jsonl(value) if self.form == "jsonl" else to_units(value, merged=self.merged)


@dataclass(frozen=True)
class Conversion:
    """The steps of one `alm convert`: `parts` are the inputs of each task, mostly one."""

    wanted: Wanted
    like: Origin | None
    parts: Mapping[Task, Sequence[Item]]
    batch: Batch

    def read(self, task: Task) -> Iterator[Tokens | Latents]:
        """The recordings that go into the task."""
        from alm_cli.files.recognise import read_any

        if self.batch.skip_existing and self._is_current(task):
            raise Skip("its output is there and newer")
        if len(self.parts[task]) > 1 and task.target is not None:
            self._refuse_occupied(task.target)
        for item in self.parts[task]:
            if item.problem is not None:
                raise item.problem
            yield read_any(item.path or sys.stdin.buffer, item.name, self.like)

    def work(self, _: Task, values: Iterator[Tokens | Latents]) -> Iterator[Tokens | Latents]:
        """What becomes of them."""
        from alm_cli.files.repack import join

        whole = list(values)
        yield from self.wanted.pieces(join(whole) if len(whole) > 1 else whole[0])

    def write(self, task: Task, pieces: Iterator[Tokens | Latents]) -> None:
        """Write the result, or all pieces, which appear together."""
        if self.wanted.split_s is None or task.target is None:
            with open_sink(task.target, sys.stdout.buffer) as file:
                for value in pieces:
                    self._write(task, value, file)
            return
        with ExitStack() as together:
            for number, value in enumerate(pieces):
                target = task.target.with_stem(f"{task.target.stem}-{number:04}")
                self._refuse_occupied(target)
                with together.enter_context(fresh_file(target)).open("wb") as file:
                    self._write(task, value, file)
                task.facts["pieces"] = number + 1

    def _write(self, task: Task, value: Tokens | Latents, file: BinaryIO) -> None:
        data = self.wanted.written(value)
        file.write(data)
        task.seconds += value.origin.seconds
        self._count(task, "frames", value.frames)
        self._count(task, "tokens", value.frames * value.codebooks * value.streams)
        size = self._count(task, "bytes", len(data))
        kbps = round(size * 8 / 1000 / task.seconds, 3) if task.seconds else 0.0
        task.facts |= {"codec": value.origin.codec, "streams": value.streams}
        task.facts |= {"codebooks": value.codebooks, "kbps": kbps}

    def _count(self, task: Task, fact: str, amount: int) -> int:
        total = cast(int, task.facts.get(fact, 0)) + amount
        task.facts[fact] = total
        return total

    def _refuse_occupied(self, target: Path) -> None:
        items = (item for items in self.parts.values() for item in items)
        paths = frozenset(str(item.path.resolve()) for item in items if item.path is not None)
        obstacle = occupied(target, paths, "overwrite" if self.batch.overwrite else "refuse")
        if obstacle is not None:
            raise InputError(obstacle, hint="--overwrite or another -o")

    def _is_current(self, task: Task) -> bool:
        """Whether the output is newer than its input and, where it is a token file, undamaged."""
        from alm_cli.files.tokens import read_tokens

        if task.item.path is None or not is_newer(task.target, task.item.path):
            return False
        if self.wanted.form != "alm":
            return True
        try:
            made = read_tokens(task.target)
        except AlmError:
            return False
        return self.wanted.codebooks in (None, made.codebooks)


def _plan(
    batch: Batch, suffix: str, join: bool
) -> tuple[list[Task], Mapping[Task, Sequence[Item]]]:
    """The tasks, and the inputs of each: its own, or all of them."""
    from alm_cli.files.recognise import KNOWN_SUFFIXES

    # A folder may hold what was made of its token files before.
    suffixes = {known for known in KNOWN_SUFFIXES if known == ".alm" or known != suffix}
    if not join:
        tasks = batch.tasks(suffixes, suffix)
        return tasks, {task: [task.item] for task in tasks}
    listed = [] if batch.from_list is None else read_list(batch.from_list, sys.stdin.buffer)
    items = find_items(batch.inputs, suffixes=suffixes, recursive=batch.recursive, listed=listed)
    first = items[0]
    (task,) = replace(batch, inputs=[first.name], from_list=None).tasks(suffixes, suffix)
    return [task], {task: items}


def _form_of(output: str | None) -> Form:
    """What the suffix of the output asks for."""
    suffix = Path(output or "").suffix.removeprefix(".")
    return cast(Form, suffix) if suffix in get_args(Form) else "alm"


def _like(model: str) -> Origin:
    """What tokens of a model say of themselves: of the catalogue, or as in a token file."""
    from alm_cli.files.tokens import probe_tokens
    from alm_cli.values import Origin

    if Path(model).is_file():
        return probe_tokens(model).origin
    card = find_card(model)
    return Origin(
        codec=card.name,
        weights_sha256="",
        rate=card.rate,
        hop=round(card.rate / card.frame_rate),
        frame_rate=card.frame_rate,
        vocabularies=card.vocabularies,
        channels=1,
        source_rate=card.rate,
        source_channels=1,
        source_length=0,
        source_sha256="",
    )
