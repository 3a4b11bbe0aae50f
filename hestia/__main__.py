"""`python -m hestia`: the command line."""

from hestia.cli import main

if __name__ == "__main__":
    main(prog_name="hestia")
