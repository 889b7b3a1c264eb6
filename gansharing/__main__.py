"""``python -m gansharing``."""

from gansharing.cli import main

if __name__ == "__main__":
    main()
