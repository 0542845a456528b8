"""``python -m gossamer``: the command line where the ``gossamer`` script is not on the path."""

from gossamer.cli import main

if __name__ == "__main__":
    main()
