"""Side by side with a peer: our store and MinIO's bucket replication, on the same two servers.

    rounds:    ours | peer | ours | peer | ...          each on buckets of its own
    a round:   warm up, 1,000 x 4 KiB, 200 x 1 MiB, idle one by one
    at last:   5 GiB through ours, one object

`python -m bench` runs it; docs/benchmarks.md says what the figures mean and how to repeat them.
"""
