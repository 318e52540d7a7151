"""Forecasts of flow, speed and congestion with honest quantiles; `serve.Forecaster` is the front door."""
