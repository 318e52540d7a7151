"""Controllers, each behind `base.Controller`.

`rolling_horizon.RollingHorizon` (with `junction_choice` and its kernels) is the one in use,
`max_pressure.MaxPressure` stands in for it. To add one: a file here, and an entry in `twin.app.build_city`.
"""
