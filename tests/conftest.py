"""Settings of all tests."""

from hypothesis import settings

# Few and always the same examples: a test run is to be repeatable, and a ground state costs more than an integer.
settings.register_profile("default", deadline=None, derandomize=True, database=None, max_examples=15)
settings.load_profile("default")
