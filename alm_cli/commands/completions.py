"""`alm completions SHELL` (hidden): the scripts in `completions/`, made anew.

alm completions bash > completions/alm.bash
alm completions zsh > completions/_alm
alm completions fish > completions/alm.fish
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

# The scripts ask the program itself, which answers when it finds this in its environment.
_QUESTION = "_ALM_COMPLETE"
# zsh loads the file when it is first asked for a completion, and runs it as the answer.
_ZSH_FIRST_TIME = '\n\n[[ ${funcstack[1]} == _alm ]] && _alm_completion "$@"'


def completions(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="For which shell.")],
) -> None:
    """Print the completion script for a shell."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(prog_name="alm", complete_var=_QUESTION, shell=shell)
    typer.echo(script + (_ZSH_FIRST_TIME if shell == "zsh" else ""))


def answer_shells() -> None:
    """Let Typer understand what the scripts ask."""
    if _QUESTION in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
