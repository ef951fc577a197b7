"""Makes ``python -m cocuyo`` the same as ``cocuyo``."""

from cocuyo.cli import main

if __name__ == "__main__":
    main()
