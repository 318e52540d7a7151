"""Everything that runs SUMO: the one driver, demand, the virtual city, measured indicators, the synthetic zone."""
