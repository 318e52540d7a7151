"""The road network and the words that every other package speaks.

Start with `networks.graph.Network` (ids to dense indices and arrays), then `networks.state` (what the twin knows
and expects), `networks.batches` (what feeds deliver) and `networks.messages` (the wire format of the street).
Inside values are SI units, local metres and UTC epoch seconds; missing is `valid == False`, never a guess.
"""
