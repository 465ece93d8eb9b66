"""PyPI's localbucket with one socket option set.

It sends the head and the body of an answer in two small packets, so each read waits 40 ms for the
other end's delayed acknowledgement unless Nagle's algorithm is off: measured 42 ms a GET before, 1
after.
"""

from __future__ import annotations

import localbucket


def main() -> None:
    """Serve as `localbucket` does, with its command line."""
    localbucket.S3Handler.disable_nagle_algorithm = True
    localbucket.main()


if __name__ == "__main__":
    main()
