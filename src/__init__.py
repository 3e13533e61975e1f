"""The core that the stages share; imports go downwards only."""
