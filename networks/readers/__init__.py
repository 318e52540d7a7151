"""Readers of somebody else's formats.

`sumo.read_sumo` makes a `networks.graph.Network`; `osm` and `opendrive` turn their maps into a SUMO network by
netconvert first; `formats` tells which is which.
"""
