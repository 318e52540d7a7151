"""Everything that runs SUMO: the virtual city, the prior, the rivals, demand, measures and the synthetic zone.

`cities.find_city` turns a name or a folder into a city. `virtual_city.VirtualCity` is the handle of a street that
runs in its own process (`street` is its body, the other `street_*` modules its parts). `prior.build_prior` says what
a demand file expects, `rivals.run_rival` how the city fares without the twin, `measures` how that is counted.
`side_by_side.run_jobs` runs anybody's scenario under several controls; `full_detection` is the one that sees all.
Only `simulation` starts and steps SUMO, and nothing here may import pyarrow or geopandas: they clash with libsumo.
"""
