"""A third party's replica: what runs on their machine, with their credentials."""
