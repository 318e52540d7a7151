"""Feed adapters, one file a feed, each behind `base.Adapter`."""
