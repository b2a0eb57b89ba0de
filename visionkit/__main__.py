"""`python -m visionkit` is the command line."""

from visionkit.cli import run

if __name__ == "__main__":
    run()
