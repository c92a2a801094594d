"""`nsbench` and `python -m nsbench.cli`: the command."""

import sys


def main() -> int:
    """Run the command; where what it needs is not installed, say what to install and return status 2."""
    try:
        from nsbench.cli.parser import main as run
    except ModuleNotFoundError as error:
        from nsbench import __version__

        if sys.argv[1:] == ["--version"]:
            print(f"nsbench {__version__}")
            return 0
        print(f"nsbench: {error.name} is not installed; the extra 'all' of nsbench installs it", file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
