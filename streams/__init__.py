"""The log's consequences: Faust apps that copy objects and announce what happened.

Decisions are pure functions in modules of their own; awaits live in thin agents.
"""
