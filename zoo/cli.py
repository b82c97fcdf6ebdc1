"""The command `zoo`. Exit codes: 0 all well, 1 something is damaged or not clean, 2 a name, place or file of no use."""

import errno
from typing import Any

import click

from zoo import commands
from zoo.errors import IntegrityError, ZooError
from zoo.terminal.exit_codes import BAD_INPUT, WRONG


class Commands(click.Group):
    """The commands of the folder; every error that a user can cause is one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return commands.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return commands.find(cmd_name) if cmd_name in commands.names() else None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ZooError as error:
            click.echo(f"zoo: {error}", err=True)
            ctx.exit(WRONG if isinstance(error, IntegrityError) else BAD_INPUT)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            click.echo(
                f"zoo: cannot write {error.filename or 'what is printed'}: {error.strerror}; make room", err=True
            )
            ctx.exit(BAD_INPUT)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in ("", "zoo", "surgery"):
                raise
            click.echo(f"zoo: the package {package} is not installed; pip install 'lite-zoo[build]'", err=True)
            ctx.exit(BAD_INPUT)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lite-zoo", prog_name="zoo")
def main() -> None:
    """Find, inspect and verify the models of a zoo, and lint any ONNX file against a device.

    A zoo is a folder with an index.json, as `doit build` makes it.
    """
