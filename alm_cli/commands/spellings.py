"""The spellings of the command `whisper`, so that its users and their scripts need not change."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from typer.core import TyperCommand

# What others call our options.
_ALSO = {
    "--output-format": "--format",
    "--vad-filter": "--vad",
    "--compute-type": "--dtype",
}
# Always a folder there, which may not be there yet; and half precision, which is a --dtype here.
_FOLDER, _HALF = "--output-dir", "--fp16"
_YES, _NO = "True", "False"


class WhisperSpellings(TyperCommand):
    """A command that also takes `--beam_size 5`, `--word_timestamps True`, `--output_dir DIR`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, after they are spelled as ours."""
        params = {name: param for param in self.params for name in param.opts}
        return super().parse_args(ctx, list(_translated(deque(args), params)))


def _translated(rest: deque[str], params: Mapping[str, Any]) -> Iterator[str]:
    """The arguments in our spelling; what is the value of an option is never touched."""
    while rest:
        arg = rest.popleft()
        if arg == "--":
            yield from (arg, *rest)
            return
        name, given, value = arg.partition("=")
        if not name.startswith("--"):
            yield arg
            if arg in params and not params[arg].is_flag and rest:
                yield rest.popleft()
            continue
        name = name.replace("_", "-")
        name = _ALSO.get(name, name)
        param = params.get(name)
        if param is None and name not in (_FOLDER, _HALF):
            yield name + given + value
        elif param is not None and param.is_flag:
            if not given and rest and rest[0] in (_YES, _NO):
                value = rest.popleft()
            yield from param.secondary_opts[:1] if value == _NO else [name]
        else:
            if not given:
                value = rest.popleft() if rest else ""
            yield from _valued(name, value)


def _valued(name: str, value: str) -> tuple[str, ...]:
    """An option and its value."""
    if name == _FOLDER:
        return "--output", value if value.endswith("/") else f"{value}/"
    if name == _HALF:
        return "--dtype", "float16" if value == _YES else "float32"
    return name, value
