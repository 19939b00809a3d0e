"""`python -m gateway` is `mailgate`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="mailgate")
