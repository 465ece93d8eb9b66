"""The shared language: object identity, events, their bytes, and where they are written.

Everything that two processes agree on is spelled here and nowhere else. Imports nothing of ours.
"""
