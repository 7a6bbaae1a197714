"""`alm verify`: whether the codes of a recording, or in a token file, can be trusted."""

from __future__ import annotations

import json as jsons
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alm_cli.commands import encode_options as own
from alm_cli.commands import options
from alm_cli.commands.decode import Codecs
from alm_cli.commands.facts import holds_tokens
from alm_cli.errors import DONE, SOME_FAILED, AlmError, InputError, UsageError
from alm_cli.jobs.report import JSON_VERSION, printable
from alm_cli.jobs.sources import STDIN, Item, find_items

if TYPE_CHECKING:
    from alm_cli.systems.codec import Codec
    from alm_cli.systems.verify import Measure, Verification
    from alm_cli.values import Audio

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="Recordings and token files, folders or patterns.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        show_default="the one that a token file names, for recordings alm-codec",
        help="The codec to verify.",
        autocompletion=options.model_names,
    ),
]
Source = Annotated[
    Path | None,
    typer.Option(metavar="AUDIO", help="The recording of the token file: encode it and compare."),
]
Seconds = Annotated[
    float,
    typer.Option(min=0.1, metavar="S", help="Use so much of the beginning of each recording."),
]


def _least(kind: str, what: str, default: str = "") -> Any:
    """The option that makes a share of equal codes a condition."""
    return typer.Option(
        f"--min-{kind}",
        min=0.0,
        max=1.0,
        metavar="SHARE",
        show_default=default or False,
        help=f"Demand so many equal codes {what}.",
    )


_EXACT = "1 in float32 on a CPU"
MinIdempotence = Annotated[float | None, _least("idempotence", "after decoding and encoding")]
MinSlice = Annotated[float | None, _least("slice", "in slices encoded alone")]
MinPerturbation = Annotated[float | None, _least("perturbation", "after inaudible changes")]
MinBatch = Annotated[float | None, _least("batch", "in batches", _EXACT)]
MinStream = Annotated[float | None, _least("stream", "in streams", _EXACT)]
MinDevice = Annotated[float | None, _least("device", "on another device")]
MinSource = Annotated[float | None, _least("source", "with --source", _EXACT)]


def verify(
    inputs: Inputs,
    model: Model = None,
    codebooks: options.Codebooks = None,
    layer: own.Layer = None,
    kmeans: own.Kmeans = None,
    normalize: own.Normalize = None,
    windowed: own.Windowed = None,
    source: Source = None,
    seconds: Seconds = 10.0,
    min_idempotence: MinIdempotence = None,
    min_slice: MinSlice = None,
    min_perturbation: MinPerturbation = None,
    min_batch: MinBatch = None,
    min_stream: MinStream = None,
    min_device: MinDevice = None,
    min_source: MinSource = None,
    recursive: options.Recursive = False,
    device: options.Device = options.AUTO,
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Measure how far codes can be trusted.

    For a recording: the share of codes that are the same after decoding and encoding again, in
    slices encoded alone, after changes that nobody hears, in batches, streams and on a GPU; and how
    near to ties codes were chosen. For a token file: whether it is whole and its weights are here,
    and whether its codes come out again. Demands that are not met, or that cannot be measured, make
    the exit code 1.
    """
    demands = {
        "idempotence": min_idempotence,
        "slice": min_slice,
        "perturbation": min_perturbation,
        "batch": min_batch,
        "stream": min_stream,
        "device": min_device,
        "source": min_source,
    }
    items = _items(inputs, recursive)
    _check(items, source, min_source)
    if model is not None:
        options.check_model(model)

    load = partial(_loader(layer, kmeans, normalize), dtype=dtype, threads=threads)
    how = How(codebooks=codebooks, windowed=windowed, source=source, seconds=seconds)
    verifying = Verifying(load, device, model, how)
    code = DONE
    for item in items:
        code = max(code, _tell(item, verifying, demands, json))
    raise typer.Exit(code)


@dataclass(frozen=True, kw_only=True)
class How:
    """What is asked of the measurement of each input."""

    codebooks: int | None
    windowed: float | None
    source: Path | None
    seconds: float


class Verifying:
    """What one `alm verify` does to each of its inputs."""

    def __init__(
        self, load: Callable[..., Codec], device: str, model: str | None, how: How
    ) -> None:
        self._load, self._model, self._how = load, model, how
        self._codecs = Codecs(partial(load, device=device), model)
        self._others: Codecs | None = None

    def report(self, path: Path) -> tuple[Codec, Verification]:
        """Measure the codec of an input. AlmError: it cannot be read, or its codec is not here."""
        from alm_cli.files.audio import read_audio
        from alm_cli.files.tokens import read_tokens
        from alm_cli.systems.verify import verify_audio, verify_tokens

        if holds_tokens(path):
            tokens = read_tokens(path)  # which verifies the checksum
            codec = self._codecs.get(tokens.origin.codec)
            source = None if self._how.source is None else read_audio(self._how.source)
            return codec, verify_tokens(codec, tokens, source)
        name = self._model or options.DEFAULT_MODEL
        audio, codec = self._beginning(path), self._codecs.get(name)
        return codec, verify_audio(
            codec,
            audio,
            codebooks=self._how.codebooks,
            windowed=self._how.windowed,
            elsewhere=self._elsewhere(codec, name),
        )

    def _beginning(self, path: Path) -> Audio:
        """The first seconds of a recording."""
        import numpy as np

        from alm_cli.files.audio import open_audio
        from alm_cli.values import Audio

        with open_audio(path) as reader:
            silence = np.zeros((reader.channels, 0), np.float32)
            return Audio(
                next(reader.blocks(ceil(self._how.seconds * reader.rate)), silence), reader.rate
            )

    def _elsewhere(self, codec: Codec, name: str) -> Codec | None:
        """The same codec on the other kind of device, if there is one."""
        from alm_cli.runtime import device_of

        if device_of("auto").type == "cpu":
            return None
        if self._others is None:
            other = "cuda" if codec.device.type == "cpu" else "cpu"
            self._others = Codecs(partial(self._load, device=other), self._model)
        return self._others.get(name)


def _loader(layer: int | None, kmeans: Path | None, normalize: bool | None) -> Callable[..., Codec]:
    """What loads a codec, or an encoder as it is asked for."""
    from alm_cli.systems.codec import load_codec
    from alm_cli.systems.units import load_units

    if all(asked is None for asked in (layer, kmeans, normalize)):
        return load_codec
    return partial(load_units, layer=layer, kmeans=kmeans, normalize=normalize)


def _items(inputs: Sequence[str], recursive: bool) -> list[Item]:
    if STDIN in inputs:
        raise UsageError("verify reads files, not standard input", hint="save it and give the file")

    from alm_cli.files.audio import AUDIO_SUFFIXES
    from alm_cli.files.tokens import TOKEN_SUFFIX

    return find_items(inputs, suffixes={*AUDIO_SUFFIXES, TOKEN_SUFFIX}, recursive=recursive)


def _check(items: Sequence[Item], source: Path | None, min_source: float | None) -> None:
    if source is None and min_source is not None:
        raise UsageError("--min-source needs --source")
    if source is None:
        return
    readable = [item.path for item in items if item.path is not None and item.problem is None]
    if len(items) > 1 or not all(map(holds_tokens, readable)):
        raise UsageError("--source is the recording of one token file", hint="give that file alone")


def _tell(item: Item, verifying: Verifying, demands: Mapping[str, float | None], json: bool) -> int:
    """Measure and show one input; the exit code."""
    from alm_cli.systems.verify import expected

    try:
        if item.problem is not None:
            raise item.problem
        assert item.path is not None
        codec, report = verifying.report(item.path)
    except (AlmError, OSError) as error:
        failure = error if isinstance(error, AlmError) else InputError(str(error))
        if json:
            told = {"error": failure.message, "hint": failure.hint}
            typer.echo(_line(item, told))
        named = str(failure) if item.name in str(failure) else f"{item.name}: {failure}"
        typer.echo(f"failed: {printable(named)}", err=True)
        return SOME_FAILED
    verdicts = _verdicts(report, demands, expected(codec))
    typer.echo(_line(item, _facts(report, verdicts)) if json else _block(item, report, verdicts))
    return DONE if all(verdict.met for verdict in verdicts) else SOME_FAILED


@dataclass(frozen=True)
class Verdict:
    """A measure beside the least that it should be; `required` where it may not be missing."""

    measure: Measure
    least: float | None
    required: bool

    @property
    def met(self) -> bool:
        """Whether the measure is as it should be."""
        if self.measure.equal is None:
            return not self.required
        return self.least is None or self.measure.equal >= self.least


def _verdicts(
    report: Verification, demands: Mapping[str, float | None], expected: Mapping[str, float]
) -> list[Verdict]:
    """The measures beside what is demanded, or else expected: that is not required."""
    measured = {measure.kind for measure in report.measures if measure.equal is not None}
    verdicts = []
    for measure in report.measures:
        kind, demanded = measure.kind, demands.get(measure.kind)
        required = demanded is not None and kind not in measured
        least = expected.get(kind) if demanded is None else demanded
        verdicts.append(Verdict(measure, least, required))
    return verdicts


def _facts(report: Verification, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Everything, for programs."""
    facts: dict[str, Any] = {"codec": report.codec, "seconds": round(report.seconds, 6)}
    facts |= {"frames": report.frames, "codebooks": report.codebooks, **dict(report.facts)}
    facts["measures"] = [
        {
            "kind": verdict.measure.kind,
            "name": verdict.measure.name,
            "equal": verdict.measure.equal,
            "per_codebook": verdict.measure.shares,
            "frames": verdict.measure.frames,
            "first_difference": verdict.measure.first_difference,
            "reason": verdict.measure.reason or None,
            "least": verdict.least,
            "met": verdict.met,
        }
        for verdict in verdicts
    ]
    if report.margins is not None or report.margins_reason:
        margins = report.margins
        facts["margins"] = {"reason": report.margins_reason} if margins is None else asdict(margins)
    return facts | {"met": all(verdict.met for verdict in verdicts)}


def _block(item: Item, report: Verification, verdicts: Sequence[Verdict]) -> str:
    """Everything, for people: a column for all codebooks, the first, the last and the worst."""
    of = f"{report.codebooks} codebooks" if report.codebooks else "features"
    size = f"{report.seconds:.2f} s, {report.frames} frames, {of}"
    lines = [printable(item.name), _said("codec", f"{printable(report.codec)}, {size}")]
    lines += [_said(label, text) for label, text in report.facts]
    lines.append(_numbers("share of equal codes", _HEADS if report.codebooks > 1 else _HEADS[:1]))
    lines += [_judged(verdict) for verdict in verdicts]
    if report.margins is None:
        reason = report.margins_reason
        return "\n".join(lines + [_said("margins", f"not measured: {reason}")] * bool(reason))
    lowest, ties = report.margins.lowest, report.margins.ties
    margins = _columns(min(lowest), lowest, min)
    lines.append(_numbers("margin of 1 % of codes", [f"{number:.1e}" for number in margins]))
    shares = _columns(sum(ties) / len(ties), ties, max)
    return "\n".join([*lines, _numbers("nearly ties", map(_share, shares))])


def _judged(verdict: Verdict) -> str:
    """A measure, and what is demanded where it is not met."""
    measure = verdict.measure
    if measure.equal is None:
        line = _said(measure.name, f"not measured: {measure.reason}")
    else:
        line = _numbers(measure.name, map(_share, _columns(measure.equal, measure.shares, min)))
    if verdict.met:
        return line
    where = "" if measure.first_difference is None else f", differs from frame {_place(measure)}"
    return f"{line}  MISSED: {verdict.least:g} is demanded{where}"


def _place(measure: Measure) -> str:
    return f"{measure.first_difference} of {measure.frames}"


def _columns(
    whole: float, each: Sequence[float], worst: Callable[[Sequence[float]], float]
) -> list[float]:
    return [whole, each[0], each[-1], worst(each)] if len(each) > 1 else [whole]


_HEADS = ("all", "first", "last", "worst")


def _said(label: str, text: str) -> str:
    return f"  {label:<27}{text}"


def _numbers(label: str, cells: Iterable[str]) -> str:
    return f"  {label:<27}" + "".join(f"{cell:>9}" for cell in cells)


def _share(number: float) -> str:
    """Rounded down, so that only what is equal altogether is 1."""
    return f"{floor(number * 10_000) / 10_000:.4f}"


def _line(item: Item, facts: Mapping[str, Any]) -> str:
    head = {"version": JSON_VERSION, "command": "verify", "input": item.name}
    return jsons.dumps({**head, **facts})
