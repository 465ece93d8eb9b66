"""A client of the gateway's API, for the command line and for programs."""

from tidestore.client.api import Client, ClientError

__all__ = ["Client", "ClientError"]
