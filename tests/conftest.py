"""Settings that all tests share."""

from hypothesis import settings

# A machine that is busy with other things says nothing about the code: no limit on time per example.
settings.register_profile("holdfast", deadline=None)
settings.load_profile("holdfast")
