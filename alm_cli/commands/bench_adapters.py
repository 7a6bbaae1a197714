"""`alm bench adapters`: what audio costs a language model, before anything is loaded."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from alm_cli.commands import bench_options as own

Llm = Annotated[
    str,
    typer.Option(
        "--llm",
        metavar="NAME|LxHxD",
        help="A language model, or its layers, heads of keys and values, features of a head.",
    ),
]
Length = Annotated[float, typer.Option(min=0.1, metavar="S", help="Of the recording.")]
Context = Annotated[int, typer.Option(min=1, metavar="N", help="Positions of the language model.")]
Cache = Annotated[
    Literal["float32", "bfloat16", "float16", "float8", "int8"],
    typer.Option(help="The numbers of the cache of keys and values."),
]
Words = Annotated[float, typer.Option(min=1, metavar="N", help="Of the speech, a minute.")]


def adapters(
    llm: Llm = "llama-3.1-8b",
    seconds: Length = 60.0,
    context: Context = 8192,
    cache_dtype: Cache = "bfloat16",
    words_per_minute: Words = 150.0,
    json: own.Json = None,
    csv: own.Csv = None,
    markdown: own.Markdown = None,
    html: own.Html = None,
    plot: own.Plot = None,
) -> None:
    """Tell how many tokens encoders with adapters and codecs make, and what these cost.

    Nothing is measured: lengths decide. Codes flat, one after another, or delayed, all of a frame
    in one step; beside them the same speech as text.
    """
    from alm_cli.bench.adapters import COLUMNS, Budget, language_model
    from alm_cli.bench.environment import environment
    from alm_cli.bench.reports import Report
    from alm_cli.commands.benching import Delivery

    outputs = {"json": json, "csv": csv, "markdown": markdown, "html": html, "plot": plot}
    delivery = Delivery(outputs, None, [])
    model = language_model(llm, cache_dtype)
    budget = Budget(model=model, seconds=seconds, context=context, words=words_per_minute)
    report = Report(
        kind="adapters",
        environment=environment(seed=0, warm_up=0, repetitions=0),
        columns=COLUMNS,
        rows=budget.rows(),
        remarks=[
            f"{seconds:g} s of audio, {context} positions, {llm}: "
            f"{model.cache_bytes(1) / 1024:g} KiB a position in {cache_dtype}",
            "formulas, not measurements; a word is 4/3 tokens of text",
        ],
        names=("what", "rule"),
    )
    raise typer.Exit(delivery.deliver(report, {}))
