"""The shared core under the four stages; imports go downwards only."""
