"""Controllers, each behind `base.Controller`.

`rolling_horizon.RollingHorizon` is the one in use: what it is told (`approach_rows`) becomes the view of a junction
(`approach_views`), a choice there (`junction_choice` and its kernels), a plan, and what the neighbours have to expect
of it (`relays`, `outflow`). `max_pressure.MaxPressure` stands in for it. To add one: a file here, and an entry in
`twin.app.build_city`.
"""
