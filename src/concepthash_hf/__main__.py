"""`python -m concepthash_hf`: the command `concepthash`."""

from .cli import main

if __name__ == "__main__":
    main()
