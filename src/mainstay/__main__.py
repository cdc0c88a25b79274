"""The entry point: says in one line what to install where the command line's own packages are missing."""

import sys


def main() -> None:
    """Run the command line. Exit codes: 0 done or nothing found, 1 findings, 2 the work could not be done."""
    try:
        from mainstay.cli import run
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] == "mainstay":
            raise
        sys.stderr.write(
            f"mainstay: the command line needs the package {missing.name!r}; "
            "install Mainstay with its 'cli' extra, or with 'architect' for all of it\n"
        )
        raise SystemExit(2) from None
    run()


if __name__ == "__main__":
    main()
