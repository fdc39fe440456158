"""Prediction on files: pictures and videos in, drawn copies and listings out."""
