"""What all tests share."""

from hypothesis import settings

# Nothing is timed: a busy machine must not fail a law.
settings.register_profile("cocuyo", deadline=None)
settings.load_profile("cocuyo")
