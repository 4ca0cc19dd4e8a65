"""The command group: exit codes, and errors as one line on stderr."""

from __future__ import annotations

import logging
import sys
import warnings

import click

from clipnb.errors import InputError

OF_MODELS = {"torch", "torchvision", "open_clip", "transformers", "safetensors"}  # what the extra `model` installs
INSTALL_MODELS = "pip install 'clipnb[model]'"


class _Group(click.Group):
    """Turns our own errors into one line and exit code 2, and anything unforeseen into one line and exit code 1."""

    def main(self, *args, **kwargs):
        """Run with streams that write what they can: a name that a console cannot show must not end a finished run."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # None where the stream is closed
                stream.reconfigure(errors="backslashreplace")
        warnings.filterwarnings("ignore", module="PIL")  # what is odd about an image that it reads all the same
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells where its cache lies if there is no home
        return super().main(*args, **kwargs)

    def parse_args(self, ctx, args):
        try:
            return super().parse_args(ctx, args)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            _refuse(ctx, error)

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            _refuse(ctx, error)
        except InputError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"clipnb: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("clipnb: interrupted; what was written so far is whole", err=True)
            ctx.exit(130)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click ends quietly where the reader of a pipe has gone (`clipnb check | head -3`)
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in OF_MODELS:
                click.echo(
                    f"clipnb: this command needs a model, and {error.name} is not installed: {INSTALL_MODELS}", err=True
                )
                ctx.exit(2)
            first = (str(error).strip().splitlines() or [""])[0]
            click.echo(
                f"clipnb: {type(error).__name__}: {first} (run again with `clipnb --debug` for details)", err=True
            )
            ctx.exit(1)


def _refuse(ctx, error: click.UsageError) -> None:
    click.echo(f"clipnb: {error.format_message()} (see `{(error.ctx or ctx).command_path} --help`)", err=True)
    ctx.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="clipnb")
def main(debug: bool) -> None:
    """Judge a CLIP model: accuracy with intervals, and the categories it fails on.

    Everything runs offline on the embedded model (clipnb-mini) and pictures (the emoji set). With a model hub in
    reach: --model ViT-B-32 --pretrained openai; with your own pictures: --dataset folder:PATH.
    """
