"""The bundled city `zone`: a synthetic high-level autonomous-driving demonstration zone, drawn from parameters.

    ZoneParameters -> layout.draw_layout -> netconvert -> demand.motor_trips -> programmes.time_signals -> city folder

It has the proportions of a Chinese new-town demonstration zone (superblocks, wide arterials, protected left turns,
e-bike lanes, tidal commuting) and copies no real one. `build.build_zone` is the only function others need.
"""
