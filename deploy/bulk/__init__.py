"""Prediction over more pictures than one process gets through."""
