"""``python -m maskstream``."""

from maskstream.cli import main

if __name__ == "__main__":
    main()
