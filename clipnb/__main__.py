"""`python -m clipnb`: the same as `clipnb`."""

from clipnb.cli import main

if __name__ == "__main__":
    main(prog_name="clipnb")
