"""Forecasts of flow, speed and congestion with honest quantiles, for every edge and up to an hour ahead.

`serve.Forecaster` is the front door: history in, `networks.state.Forecast` out, with the fallback that produced it.
Behind it: `windows` (what was known when), `baselines` (profile and persistence), `calibration` (quantiles that keep
their promise), `congestion` (states relative to free flow); `backtest` scores the baselines on a series.
It sees arrays only: neither signals nor SUMO.
"""
