"""Forecasts of flow, speed and congestion with honest quantiles, for every edge and up to an hour ahead.

Two doors, one house behind them. In the live loop `serve.Forecaster`: history in, `networks.state.Forecast` out, with
who produced it. `windows` remembers what was known when, `live_city` fits past days and cuts a window that ends now,
`live_gate` lets models in and tells broken feeds, `oddness` how unlike the past the day is, `producers` holds what
each says, `shares` what each counts for, `spread` how far apart the quantiles are (`calibration` carries their bands
along), `waiting` the forecasts whose truth is to come; `congestion` tells states relative to free flow, `arrivals`
what comes to each stop line.

For recorded series of whole cities `backcast.forecast_windows`, the graph model. In the order of the data: `reading`
(of `series_folder`, `timed_csv`, `sumo_output`; `recording` holds all channels, `street_graph` joins edges), `series`
(one channel), `grid` and `free_days` (rows by the time of day, days as they are lived), `usual` (the profile),
`city_context`, `features`, `ridge` and `lags` (linear, per city), `model` (one net for all cities), `stacking`
(corrected by recent errors), `conformal` (bands). `forecasters` puts all of them and the baselines behind one
interface, `stid` adds a rival; `courses`, `drawn_roads` (days of own simulation), `train` and `adapt` make models;
`gate`, `artifact` and `registry` decide which of them is live.
It sees arrays and files only: neither signals nor a running SUMO.
"""
