"""Readers: a file of somebody's format -> `networks.graph.Network`."""
