"""The live twin: feeds, fusion, mirror, store, loop, service and command line.

`twin.app` puts it together, `twin.loop` is the sentence it lives by, `twin.cli` is the program `citytwin`.
"""
