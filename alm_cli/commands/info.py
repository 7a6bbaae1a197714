"""`alm info`: what a recording, a token file or a model comes to in tokens, and planning."""

from __future__ import annotations

import json as jsons
from math import inf
from typing import Annotated, Literal

import typer

from alm_cli.catalog import find_card
from alm_cli.commands import facts, options
from alm_cli.errors import DONE, SOME_FAILED, AlmError, InputError, UsageError
from alm_cli.jobs.report import JSON_VERSION, printable
from alm_cli.planning import LanguageModel, TokenRate

Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE", help="Recordings, token files and models.", show_default=False),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="Plan with the token format of this model.",
        autocompletion=options.model_names,
    ),
]
FrameRate = Annotated[
    float | None, typer.Option(metavar="HZ", help="Plan with these frames per second.")
]
Codebooks = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Plan with this many codebooks.")
]
Vocabulary = Annotated[
    int | None, typer.Option(min=2, metavar="N", help="Plan with codebooks of this size.")
]
Seconds = Annotated[float | None, typer.Option(metavar="S", help="Plan for this much audio.")]
Compression = Annotated[
    float | None,
    typer.Option(metavar="N", help="How many tokens a language model takes as one position."),
]
Layers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Layers of the language model.")
]
KvHeads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Its key-value heads in each layer.")
]
HeadDim = Annotated[int | None, typer.Option(min=1, metavar="N", help="The size of each head.")]
KvDtype = Annotated[
    Literal["float32", "bfloat16", "float16", "float8", "int8"],
    typer.Option(help="The numbers in its key-value cache."),
]
Context = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="The positions that it has in all.")
]


def info(
    files: Files = None,
    model: Model = options.DEFAULT_MODEL,
    frame_rate: FrameRate = None,
    codebooks: Codebooks = None,
    vocabulary: Vocabulary = None,
    seconds: Seconds = None,
    compression: Compression = None,
    layers: Layers = None,
    kv_heads: KvHeads = None,
    head_dim: HeadDim = None,
    kv_dtype: KvDtype = "bfloat16",
    context: Context = None,
    json: options.Json = False,
) -> None:
    """Tell what audio, tokens and models come to: rates, counts, bits, context.

    Without FILE it plans, with the model's token format or the one that the options give.
    """
    _check(("--frame-rate", frame_rate), ("--compression", compression), ("--seconds", seconds))
    rate = _token_rate(model, frame_rate, codebooks, vocabulary)
    reader = _reader(compression, layers, kv_heads, head_dim, kv_dtype, context)
    if files:
        raise typer.Exit(_tell_files(files, rate, reader, json))
    if not (frame_rate or codebooks or vocabulary or seconds or reader):
        raise UsageError("no FILE and nothing to plan", hint="give FILE, or --seconds")
    plan = {"kind": "plan"} | facts.rate_facts(rate) | facts.plan_facts(rate, seconds, reader)
    typer.echo(_line(plan) if json else facts.show(plan))


def _tell_files(files: list[str], rate: TokenRate, reader: facts.Reader | None, json: bool) -> int:
    code = DONE
    for name in files:
        try:
            found = facts.facts_of(name, rate, reader)
            typer.echo(_line({"input": name} | found) if json else _block(name, found))
        except (AlmError, OSError) as error:
            code = SOME_FAILED
            failure = error if isinstance(error, AlmError) else InputError(f"{name}: {error}")
            typer.echo(f"failed: {printable(str(failure))}", err=True)
            if json:
                told = {"error": failure.message, "hint": failure.hint}
                typer.echo(_line({"input": name} | told))
    return code


def _block(name: str, found: facts.Facts) -> str:
    return f"{printable(name)}\n{facts.show(found)}"


def _line(found: facts.Facts) -> str:
    return jsons.dumps({"version": JSON_VERSION, "command": "info"} | found)


def _check(*numbers: tuple[str, float | None]) -> None:
    for option, number in numbers:
        if number is not None and not 0 < number < inf:  # nor nan
            raise UsageError(f"{option} {number:g}: must be more than 0, and finite")


def _token_rate(
    model: str, frame_rate: float | None, codebooks: int | None, vocabulary: int | None
) -> TokenRate:
    """The token format to plan with: of the options, or of the model."""
    if frame_rate is None:
        if vocabulary is not None:
            raise UsageError("--vocabulary needs --frame-rate")
        card = find_card(model)
        if codebooks is not None and codebooks > len(card.vocabularies):
            raise UsageError(f"{model} has {len(card.vocabularies)} codebooks, not {codebooks}")
        return facts.card_rate(card, codebooks)
    count = codebooks or 1
    sizes = () if vocabulary is None else (vocabulary,) * count
    return TokenRate(frame_rate=frame_rate, codebooks=count, vocabularies=sizes)


def _reader(
    compression: float | None,
    layers: int | None,
    kv_heads: int | None,
    head_dim: int | None,
    kv_dtype: str,
    context: int | None,
) -> facts.Reader | None:
    if compression is None and layers is kv_heads is head_dim is context is None:
        return None
    model = None
    if layers and kv_heads and head_dim:
        model = LanguageModel(
            layers=layers, kv_heads=kv_heads, head_dim=head_dim, kv_dtype=kv_dtype
        )
    elif layers or kv_heads or head_dim:
        raise UsageError("the key-value cache needs --layers, --kv-heads and --head-dim")
    return facts.Reader(compression=compression or 1.0, model=model, context=context)
