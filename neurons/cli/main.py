"""The `neurons` command: every group of commands, and errors as one line and an exit code.

Only the groups that the command line names are imported: a question to a cache should not wait for the rest.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from neurons.parallel import collect_seldom
from neurons.types import NeuronsError

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""Typer carries a click of its own, whose place is private; this is its class for wrong usage."""
OBJECTS = 300_000
"""Made until garbage is looked for."""
INTERRUPTED = 130
"""Typer catches Ctrl-C and returns this."""

GROUPS = {
    "core": ("report", "behaviour", "rank", "effect"),
    "causal": ("causal",),
    "compose": ("cluster", "compose"),
    "circuit": ("circuit",),
    "comparisons": ("tasks", "check", "compare"),
    "caches": ("models", "prompts", "cache"),
}
"""The files of commands, in the order of the help, and what each registers."""


def build_app(words: Sequence[str] = ()) -> typer.Typer:
    """The command with the groups that the words name; with all of them where they name none."""
    app = typer.Typer(
        name="neurons",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="Find the MLP neurons that make GPT-2 prefer years after the start year, and how they combine.",
        epilog="Exit codes: 0 done, 1 could not be done, 2 wrong usage, 130 interrupted. Start with: neurons report",
    )
    app.callback(invoke_without_command=True)(_root)
    named = [group for group, commands in GROUPS.items() if set(words[:1]) & set(commands)]
    for group in named or GROUPS:
        import_module(f"neurons.cli.{group}").register(app)
    return app


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        from neurons import __version__

        print(f"neurons {__version__}")
        raise typer.Exit
    from neurons.cli.common import help_without_command

    help_without_command(context)


def main() -> None:
    """Run the command; a failure is one line on standard error and exit code 1, or 2 for wrong usage."""
    collect_seldom(OBJECTS)
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = build_app(arguments)(arguments, prog_name="neurons", standalone_mode=False) or 0
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code)
    except NeuronsError as error:
        sys.exit(_fail(str(error), error.exit_code, debug))
    except UsageError as error:
        sys.exit(_fail(_usage_line(error), 2, debug))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_fail("interrupted; what was finished is kept, run the same command to go on", INTERRUPTED, debug))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _usage_line(error: Any) -> str:
    path = error.ctx.command_path if error.ctx else "neurons"
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    return f"{message} (see {path} --help)"


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"neurons: {' '.join(message.split())}", file=sys.stderr)
    return code
