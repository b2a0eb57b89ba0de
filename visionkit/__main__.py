"""`python -m visionkit` is the command line."""

from visionkit.cli import main

if __name__ == "__main__":
    main()
