"""The composition root: the one place that looks at the environment and the command line."""

from __future__ import annotations

import os
import sys

from tidestore.cli.commands import cli


def main() -> None:
    """Run the command line. What nobody foresaw is one line too, and its trace is for who asks."""
    environ = dict(os.environ)
    try:
        cli.main(args=sys.argv[1:], prog_name="tidestore", obj=environ)
    except Exception as error:
        if environ.get("TIDESTORE_TRACE"):
            raise
        reason = " ".join(str(error).split())[:500]
        sys.stderr.write(
            f"tidestore: something nobody foresaw: {type(error).__name__}: {reason}\n"
            "  hint: please report it with what TIDESTORE_TRACE=1 prints in front of the command\n"
        )
        sys.exit(70)


if __name__ == "__main__":
    main()
