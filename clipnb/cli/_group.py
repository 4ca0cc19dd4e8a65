"""The command group: exit codes, and errors as one line on stderr."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any, NoReturn

import click

from clipnb._format import first_line
from clipnb.errors import InputError

OF_MODELS = {"torch", "torchvision", "open_clip", "transformers", "safetensors"}  # what the extra `model` installs
INSTALL_MODELS = "pip install 'clipnb[model]'"


class _Group(click.Group):
    """Turns unusable input into one line and exit code 2, and any other failure into one line and exit code 1."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run with streams that replace characters the console cannot show, so that these cannot end a finished run."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a closed stream is None
                stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
        # Pillow warns about oddities of images that it can read.
        warnings.filterwarnings("ignore", module="PIL")
        # Matplotlib logs the place of its cache on machines without a home folder.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        return super().main(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            _refuse(ctx, error)

    def invoke(self, ctx: click.Context) -> Any:
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
            click.echo("clipnb: interrupted; every file written so far is complete", err=True)
            ctx.exit(130)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click ends quietly when the reader of a pipe has gone, as in `clipnb check | head -3`
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in OF_MODELS:
                click.echo(
                    f"clipnb: this command needs a model, and {error.name} is not installed: {INSTALL_MODELS}", err=True
                )
                ctx.exit(2)
            reason = f"{type(error).__name__}: {first_line(error) if str(error).strip() else ''}"
            click.echo(f"clipnb: {reason} (run again with `clipnb --debug` for details)", err=True)
            ctx.exit(1)


def _refuse(ctx: click.Context, error: click.UsageError) -> NoReturn:
    click.echo(f"clipnb: {error.format_message()} (see `{(error.ctx or ctx).command_path} --help`)", err=True)
    ctx.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="clipnb")
def main(debug: bool) -> None:
    """Judge a CLIP model: accuracy with intervals, and the classes it fails on.

    Everything runs offline on the embedded model (clipnb-mini) and the embedded images (the icon set). To use OpenAI's
    weights where a model hub can be reached: --model ViT-B-32 --pretrained openai. To use your own images:
    --dataset folder:PATH.
    """
