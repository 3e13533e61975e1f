"""Metrics and predictions from a trained model."""
