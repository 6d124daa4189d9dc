"""Adapters: one module or package a remote system, one interface for all."""
