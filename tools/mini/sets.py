"""Build both shipped image sets, emoji and icons, from the pinned packages. Twice gives the same bytes.

    npm ci --prefix tools/mini
    python -m tools.mini.sets --node-modules tools/mini/node_modules --openclipart DIR --symbola FILE --cache DIR

The options are those of `icons.py`. The icon set comes second: it leaves the concepts of `emoji:unseen` out of the
training drawings. Each set leaves its own training drawings below `--cache`; `train.py` reads those in `icons`.
"""

import argparse
from pathlib import Path

from tools.mini import emoji as build_emoji
from tools.mini import icons as build_icons

ASSETS = Path(__file__).parents[2] / "clipnb/assets"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    build_icons.add_options(parser)
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder for the sets, one folder each")
    args = parser.parse_args()
    options = vars(args)
    build_emoji.build(argparse.Namespace(**options | {"out": args.out / "emoji", "cache": args.cache / "emoji"}))
    build_icons.build(argparse.Namespace(**options | {"out": args.out / "icons", "cache": args.cache / "icons"}))


if __name__ == "__main__":
    main()
