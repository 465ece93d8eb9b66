"""Webhooks: registered as GitHub's are, rung from the feed, with a cursor each."""
