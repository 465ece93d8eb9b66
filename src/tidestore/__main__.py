"""The composition root: the one place that looks at the environment and the command line."""

from __future__ import annotations

import os
import sys

from tidestore.cli.commands import cli


def main() -> None:
    """Run the command line."""
    cli.main(args=sys.argv[1:], prog_name="tidestore", obj=dict(os.environ))


if __name__ == "__main__":
    main()
