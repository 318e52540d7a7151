"""Forecasts of flow, speed and congestion with honest quantiles, for every edge and up to an hour ahead.

Two doors. In the live loop `serve.Forecaster`: history in, `networks.state.Forecast` out, with the fallback that
produced it. Behind it: `windows` (what was known when), `baselines` (profile and persistence), `calibration`
(quantiles that keep their promise), `congestion` (states relative to free flow); `backtest` scores the baselines.

For recorded series of whole cities `backcast.forecast_windows`, the graph model. In the order of the data: `reading`,
`series`, `usual` (the profile), `city_context`, `features`, `ridge` and `lags` (linear, per city), `model` (one net
for all cities), `stacking` (corrected by recent errors), `conformal` (bands). `forecasters` puts all of them and the
baselines behind one interface, `stid` adds a rival; `courses`, `drawn_roads` (days of own simulation), `train` and
`adapt` make models; `gate`, `artifact` and `registry` decide which of them is live.
It sees arrays only: neither signals nor SUMO.
"""
