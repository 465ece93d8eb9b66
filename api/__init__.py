"""The aiohttp gateway: producers write, consumers read, hooks are rung.

Stateless but for an index that can be rebuilt from Kafka at any time.
"""
