"""Artifact stores: one module a backend, one interface for all."""
