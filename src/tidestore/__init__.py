"""tidestore: one replicated data store over many clouds.

The four packages `schemas`, `connectors`, `streams` and `api` live at the top of the repository
and are imported as `tidestore.schemas` and so on; see docs/architecture.md for what each may know.
"""

__version__ = "0.1.0"
