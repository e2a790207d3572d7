"""`python -m holdfast`."""

from holdfast.cli.start import entry

if __name__ == "__main__":
    entry()
