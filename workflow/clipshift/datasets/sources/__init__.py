"""Adapters that turn packages and folders into image-caption items."""
