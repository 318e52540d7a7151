"""Controllers, each behind `base.Controller`."""
