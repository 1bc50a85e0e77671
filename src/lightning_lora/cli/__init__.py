"""Thin commands.

Each imports torch, and what needs it, inside the function that does, so that help and a refused argument are instant.
"""
